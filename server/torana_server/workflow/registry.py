"""The workflows a server knows, by name and revision."""

from __future__ import annotations

import dataclasses
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from torana_server.core.clock import Clock, Micros, SystemClock
from torana_server.core.errors import Violation, WorkflowNotFoundError
from torana_server.core.names import did_you_mean
from torana_server.workflow.builder import Workflow
from torana_server.workflow.definition import Definition
from torana_server.workflow.plan import Plan, compile_plan
from torana_server.workflow.ports import StepCatalog
from torana_server.workflow.revision import revision_of
from torana_server.workflow.validation import require_valid

REVISIONS_KEPT: Final = 50
"""Of each workflow, that requests can ask for. A file may be edited for months."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredWorkflow:
    """One revision as it was registered. `metadata` is the operator's to change; it is no part of the revision."""

    definition: Definition
    plan: Plan
    revision: str
    required_resources: tuple[str, ...]
    description: str
    create_time: Micros
    metadata: dict[str, Any] = field(default_factory=dict)


class WorkflowRegistry:
    """Names to workflows. A name's current revision is the one registered last; of the older ones those that were
    registered most recently stay reachable, REVISIONS_KEPT in all."""

    def __init__(self, catalog: StepCatalog, clock: Clock | None = None) -> None:
        self._catalog = catalog
        self._clock = clock or SystemClock()
        self._workflows: dict[str, OrderedDict[str, RegisteredWorkflow]] = {}
        """By name and revision; the current revision is the last."""
        self._plans: weakref.WeakValueDictionary[str, Plan] = weakref.WeakValueDictionary()
        """Those that a registered revision or an execution uses."""

    def register(
        self,
        workflow: Workflow | Definition,
        *,
        name: str | None = None,
        required_resources: Sequence[str] | None = None,
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> RegisteredWorkflow:
        """Compiles a workflow and makes it the current one of its name, which `name` replaces when given.

        The functions of its function steps must be in the catalog before. Without `required_resources` they are what
        its steps require. A revision that is known keeps its `create_time` and takes the new description, resources
        and metadata. Raises InvalidWorkflowError, and then nothing has changed.
        """
        definition = workflow.definition if isinstance(workflow, Workflow) else workflow
        if name is not None and name != definition.name:
            definition = dataclasses.replace(definition, name=name)
        plan = self.compile(definition)
        if required_resources is not None:
            require_valid(definition, _undeclared(plan.definition, required_resources))
        revisions = self._workflows.setdefault(definition.name, OrderedDict())
        known = revisions.get(plan.revision)
        registered = RegisteredWorkflow(
            definition=plan.definition,
            plan=plan,
            revision=plan.revision,
            required_resources=plan.required_resources if required_resources is None else tuple(required_resources),
            description=description or definition.description,
            create_time=known.create_time if known else self._clock.now(),
            metadata=dict(metadata or {}),
        )
        revisions[plan.revision] = registered
        revisions.move_to_end(plan.revision)
        if len(revisions) > REVISIONS_KEPT:
            revisions.popitem(last=False)
        return registered

    def unregister(self, name: str) -> None:
        """Takes all revisions of a workflow away. What runs goes on. Raises WorkflowNotFoundError."""
        self.get(name)
        del self._workflows[name]

    def get(self, name: str, revision: str = "") -> RegisteredWorkflow:
        """The current revision, or the one asked for. Raises WorkflowNotFoundError, naming the nearest."""
        current = self._current(name)
        if current is None:
            near = did_you_mean(name, self._workflows) or "; register it or see ListWorkflows"
            raise WorkflowNotFoundError(f"there is no workflow {name!r}{near}", metadata={"workflow": name})
        registered = self._workflows[name].get(revision) if revision else current
        if registered is None:
            raise WorkflowNotFoundError(
                f"workflow {name!r} has no revision {revision!r} among the {REVISIONS_KEPT} latest, which are kept; "
                f"its current one is {current.revision}",
                metadata={"workflow": name, "revision": revision},
            )
        return registered

    def debugs(self, name: str) -> bool:
        """Whether the current registration's metadata says `"debug": True`, now."""
        current = self._current(name)
        return current is not None and bool(current.metadata.get("debug"))

    def all(self) -> list[RegisteredWorkflow]:
        """The current revision of each workflow, sorted by name."""
        return [self.get(name) for name in sorted(self._workflows)]

    def _current(self, name: str) -> RegisteredWorkflow | None:
        revisions = self._workflows.get(name)
        return next(reversed(revisions.values())) if revisions else None

    def compile(self, definition: Definition) -> Plan:
        """The plan of a definition, registered or recovered; compiled once for each revision.

        Raises InvalidWorkflowError.
        """
        try:
            plan = self._plans.get(revision_of(definition))
        except (TypeError, ValueError):
            plan = None  # config that is not JSON has no revision; compiling says what and where
        if plan is None:
            plan = compile_plan(definition, self._catalog)
            self._plans[plan.revision] = plan
        return plan


def _undeclared(definition: Definition, declared: Sequence[str]) -> Iterator[Violation]:
    for index, step in enumerate(definition.steps):
        for place, name in enumerate(step.required_resources):
            if name not in declared:
                message = f"{name!r} is not among the required_resources of the workflow{did_you_mean(name, declared)}"
                yield Violation(f"steps[{index}].required_resources[{place}]", message)
