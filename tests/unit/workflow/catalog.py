"""A step catalog small enough to read: what a step type says of itself, without any step type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torana_server.core.errors import Violation


@dataclass(frozen=True)
class Spec:
    name: str
    literal_fields: frozenset[str] = frozenset()
    known: frozenset[str] | None = None

    def problems(self, config: Mapping[str, object]) -> Sequence[Violation]:
        if self.known is None:
            return []
        return [Violation(key, "unknown key") for key in config if key not in self.known]

    def routes(self, config: Mapping[str, object]) -> frozenset[str]:
        routes = config.get("routes", [])
        assert isinstance(routes, list)
        return frozenset(map(str, routes))

    def requires(self, config: Mapping[str, object]) -> frozenset[str]:
        if self.name == "function":
            return frozenset({"function", f"function:{config['function']}@{config['version']}"})
        return frozenset({self.name})


class Catalog:
    def __init__(self) -> None:
        self._specs = {
            "code": Spec("code", literal_fields=frozenset({"source"})),
            "function": Spec("function"),
            "http_request": Spec("http_request", known=frozenset({"url", "headers", "body", "api_key", "list"})),
            "switch": Spec("switch"),
        }

    def get(self, type_name: str) -> Spec | None:
        return self._specs.get(type_name)

    def names(self) -> Sequence[str]:
        return sorted(self._specs)
