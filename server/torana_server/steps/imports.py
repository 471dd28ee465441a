"""What source steps may import."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ALWAYS_ALLOWED = frozenset(
    {"aiohttp", "asyncio", "asyncpg", "datetime", "decimal", "json", "math", "re", "time", "uuid"}
)
"""The modules whose content source steps are given anyway."""


@dataclass(frozen=True, slots=True)
class ImportPolicy:
    """The operator's policy: `allowed` are modules or packages (`numpy`, `xml.etree`); None allows everything.

    It guides and documents; it is no sandbox. Source steps run with the server's rights.
    """

    allowed: frozenset[str] | None = None
    builtins: Mapping[str, object] = field(init=False, repr=False, compare=False)
    """The builtins of source steps, with `__import__` held to the policy."""

    def __post_init__(self) -> None:
        own = dict(vars(builtins))
        if self.allowed is not None:
            own["__import__"] = self._import
        object.__setattr__(self, "builtins", own)

    def allows(self, module: str) -> bool:
        """Whether the module, or a package it is in, is allowed."""
        if self.allowed is None:
            return True
        parts = module.split(".")
        return any(
            ".".join(parts[:end]) in self.allowed or ".".join(parts[:end]) in ALWAYS_ALLOWED
            for end in range(1, len(parts) + 1)
        )

    def refusal(self, module: str) -> str:
        return f"import of {module!r} is not allowed by this server; its operator can add it to the import policy"

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> object:
        if not self.allows(name):
            raise ImportError(self.refusal(name), name=name)
        return builtins.__import__(name, globals, locals, fromlist or (), level)
