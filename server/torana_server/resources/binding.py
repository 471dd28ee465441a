"""Which binding each name of a request gets. Decides only; `Resources.bind` registers what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torana_server.core.errors import (
    ConflictError,
    InvalidRequestError,
    ResourceNotBoundError,
    ResourceNotFoundError,
    Violation,
)
from torana_server.core.ids import NAME_RULE, is_name
from torana_server.core.limits import RESOURCES_PER_REQUEST_MAX
from torana_server.resources.reference import INVALID_RESOURCES, Binding, ResourceReference, SharedName, same_target
from torana_server.resources.registry import ResourceRegistry, Shared, SharedReference


@dataclass(slots=True)
class Decision:
    """What a request's names mean, which names it registers, and which are only to be remembered."""

    bindings: dict[str, Binding] = field(default_factory=dict)
    registrations: dict[str, ResourceReference] = field(default_factory=dict)
    remembered: dict[str, ResourceReference] = field(default_factory=dict)


def decide(
    registry: ResourceRegistry,
    tenant: str,
    requested: Mapping[str, Binding],
    required: Sequence[str],
    problems: Callable[[ResourceReference], Sequence[Violation]],
    *,
    share_inline: bool = False,
) -> Decision:
    """With `share_inline`, references are to be remembered under their own names. They are never taken for a required
    resource that the request left out: that must be said.

    Raises InvalidRequestError, ConflictError, ResourceNotFoundError or ResourceNotBoundError, in this order of
    precedence; each names everything of its kind that is wrong."""
    _require_valid(requested, problems)
    decision = Decision(registrations=_registrations(registry, tenant, requested))
    if share_inline:
        decision.remembered = {n: b for n, b in requested.items() if isinstance(b, ResourceReference)}
    unknown: list[str] = []
    for name, binding in requested.items():
        resolved = _resolved(registry, tenant, decision, binding)
        if resolved is None:
            unknown.append(f"@{binding.name}" if isinstance(binding, SharedName) else name)
        else:
            decision.bindings[name] = resolved
    if unknown:
        raise _unknown(unknown)
    _bind_required(registry, tenant, required, decision)
    return decision


def _require_valid(
    requested: Mapping[str, Binding], problems: Callable[[ResourceReference], Sequence[Violation]]
) -> None:
    violations: list[Violation] = []
    if len(requested) > RESOURCES_PER_REQUEST_MAX:
        violations.append(Violation("resources", f"a request binds at most {RESOURCES_PER_REQUEST_MAX} resources"))
    for name, binding in requested.items():
        path = f"resources.{name}"
        if not is_name(name):
            violations.append(Violation(path, f"a resource name is {NAME_RULE}"))
        if isinstance(binding, ResourceReference):
            violations += [Violation(f"{path}.{found.path}", found.message) for found in problems(binding)]
    if violations:
        raise InvalidRequestError(INVALID_RESOURCES, violations=violations)


def _registrations(
    registry: ResourceRegistry, tenant: str, requested: Mapping[str, Binding]
) -> dict[str, ResourceReference]:
    registrations: dict[str, ResourceReference] = {}
    conflicts: list[str] = []
    for binding in requested.values():
        if not (isinstance(binding, ResourceReference) and binding.register_as):
            continue
        name = binding.register_as
        earlier = registrations.setdefault(name, binding)
        if registry.conflicts(tenant, name, binding) or not same_target(earlier, binding):
            conflicts.append(name)
    if conflicts:
        raise ConflictError(
            f"register_as never replaces a different resource, and these names are taken: {', '.join(conflicts)}. "
            "Choose other names, or refer to the registered resources as '@name'.",
            metadata={"resources": ",".join(conflicts)},
        )
    return registrations


def _resolved(registry: ResourceRegistry, tenant: str, decision: Decision, binding: Binding) -> Binding | None:
    if isinstance(binding, ResourceReference):
        return binding
    registered = _registered(registry, tenant, decision, binding)
    if registered is not None:
        return registered
    if binding.name in decision.remembered:
        return replace(decision.remembered[binding.name], register_as="")
    return _meaning(registry.get(tenant, binding.name), binding)


def _registered(registry: ResourceRegistry, tenant: str, decision: Decision, binding: SharedName) -> Binding | None:
    if binding.name in decision.registrations:
        return replace(decision.registrations[binding.name], register_as="")
    return _meaning(registry.registered(tenant, binding.name), binding)


def _meaning(shared: Shared | None, binding: SharedName) -> Binding | None:
    if isinstance(shared, SharedReference):
        return shared.reference
    return None if shared is None else binding


def _bind_required(registry: ResourceRegistry, tenant: str, required: Sequence[str], decision: Decision) -> None:
    missing: list[str] = []
    for name in required:
        if name in decision.bindings:
            continue
        # What was only remembered is not taken: a request that forgets a database must not get another request's.
        resolved = _registered(registry, tenant, decision, SharedName(name))
        if resolved is None:
            missing.append(name)
        else:
            decision.bindings[name] = resolved
    if missing:
        raise ResourceNotBoundError(
            f"Resources the workflow requires are not bound: {', '.join(missing)}. Bind each in the request's "
            "resources, or register a shared resource of that name.",
            metadata={"resources": ",".join(missing)},
        )


def _unknown(names: Sequence[str]) -> ResourceNotFoundError:
    return ResourceNotFoundError(
        f"Resource not registered: {', '.join(names)}. Register it under this name, or bind a reference instead.",
        metadata={"resources": ",".join(names)},
    )
