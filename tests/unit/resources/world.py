"""What every test of live resources needs: a façade over chosen secrets, and attempts to lease for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torana_server.access import Principal
from torana_server.core.clock import Micros, seconds
from torana_server.core.errors import SecretNotFoundError
from torana_server.resources import (
    Binding,
    Leases,
    ResourceRegistry,
    Resources,
    ResourceSettings,
    ResourceTypes,
)

ALICE = Principal("acme", "alice", frozenset({"admin"}))
BOB = Principal("other", "bob")
START = Micros(1_700_000_000_000_000)


@dataclass(slots=True)
class FakeClock:
    """Stands still until told."""

    at: Micros = START

    def now(self) -> Micros:
        return self.at

    def advance(self, duration_s: float) -> None:
        self.at = Micros(self.at + seconds(duration_s))


@dataclass(frozen=True, slots=True)
class FakeSecret:
    value: Mapping[str, object] = field(repr=False)

    def reveal(self) -> Mapping[str, object]:
        return self.value


@dataclass(slots=True)
class Secrets:
    """A reader over values in memory. `put` adds a version; `purposes` are those of the reads so far."""

    values: dict[tuple[str, str], tuple[Mapping[str, object], int]] = field(default_factory=dict)
    purposes: list[str] = field(default_factory=list)

    def put(self, principal: Principal, name: str, value: Mapping[str, object]) -> None:
        _, version = self.values.get((principal.tenant, name), ({}, 0))
        self.values[principal.tenant, name] = (value, version + 1)

    async def read(self, principal: Principal, name: str, *, purpose: str) -> tuple[FakeSecret, int]:
        self.purposes.append(purpose)
        value, version = self._entry(principal, name)
        return FakeSecret(value), version

    async def current_version(self, principal: Principal, name: str) -> int:
        return self._entry(principal, name)[1]

    def _entry(self, principal: Principal, name: str) -> tuple[Mapping[str, object], int]:
        try:
            return self.values[principal.tenant, name]
        except KeyError:
            raise SecretNotFoundError(f"Secret '{name}' not found.") from None


@dataclass(slots=True)
class World:
    clock: FakeClock = field(default_factory=FakeClock)
    secrets: Secrets = field(default_factory=Secrets)
    registry: ResourceRegistry = field(default_factory=ResourceRegistry)
    types: ResourceTypes = field(default_factory=ResourceTypes.standard)
    settings: ResourceSettings = field(default_factory=ResourceSettings)

    @classmethod
    def with_settings(cls, **settings: float) -> World:
        return cls(settings=ResourceSettings(**settings))  # type: ignore[arg-type]

    def resources(self) -> Resources:
        return Resources(
            self.registry,
            self.types,
            self.secrets,
            clock=self.clock,
            settings=self.settings,
            redact=lambda text: text,
        )


def attempt(
    resources: Resources,
    bindings: Mapping[str, Binding],
    *,
    principal: Principal = ALICE,
    step: str = "work",
    execution: str = "execution-1",
    allowed: frozenset[str] | None = None,
) -> Leases:
    return resources.open(principal, bindings, execution=execution, step=step, attempt=1, allowed=allowed)
