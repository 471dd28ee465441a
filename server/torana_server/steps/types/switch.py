"""`switch`: sends its input along one of several routes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import Field

from torana_server.core.errors import Reason, StepError, Violation
from torana_server.core.ids import NAME_RULE, is_name
from torana_server.steps.context import StepContext
from torana_server.steps.registry import LITERAL, Routed, StepConfig, StepType, contains_template
from torana_server.workflow import ERROR_ROUTE, PathNotFoundError, look_up, parse_path

_SHOWN_CHARS_MAX = 100


class SwitchConfig(StepConfig):
    input: str = Field(
        default="",
        description="Name of the input to route; empty for the object of all inputs",
        json_schema_extra=LITERAL,
    )
    field: str = Field(
        default="",
        description=r"Dotted path of the value that decides, within the input; `\.` escapes a dot",
        json_schema_extra=LITERAL,
    )
    cases: dict[str, Any] = Field(
        default_factory=dict, description="For each route the value that takes it, or an array of such values"
    )
    default: str = Field(default="", description="Route of everything else", json_schema_extra=LITERAL)


class SwitchStep(StepType[SwitchConfig]):
    """Routes one value; its output is that value, unchanged.

    What is routed is the input `input`, or the object of all inputs. What decides is the value at `field` in it, or
    the routed value itself. It takes the route whose case equals it: the same JSON value (1 equals 1.0, not true), or
    one of those in an array (so an array itself is written in an array of one). Without `cases` the deciding value is
    a boolean and the routes are `true` and `false`. What fits no case, and a field that is not there, takes `default`;
    without one the step fails.

    `{"input": "order", "field": "customer.tier", "cases": {"fast": ["gold", "silver"]}, "default": "normal"}`
    """

    name = "switch"
    description = "Sends its input along one of several routes"
    Config = SwitchConfig

    def check(self, config: SwitchConfig) -> Iterable[Violation]:
        for route in config.cases:
            yield from _route_problems(f"cases.{route}", route)
        if config.default:
            yield from _route_problems("default", config.default)
        yield from _path_problems(config.field)
        seen: list[tuple[str, object]] = []
        for route, value in _options(config.cases):
            taken = next((other for other, known in seen if _equal(known, value)), None)
            if taken is not None and not contains_template(value):
                yield Violation(f"cases.{route}", f"has the value {_shown(value)}, which case {taken!r} has already")
            seen.append((route, value))

    def routes(self, config: Mapping[str, object]) -> frozenset[str]:
        cases, default = config.get("cases"), config.get("default")
        routes = set(cases) if isinstance(cases, Mapping) and cases else {"true", "false"}
        if isinstance(default, str) and default:
            routes.add(default)
        return frozenset(routes)

    async def run(self, ctx: StepContext, config: SwitchConfig, inputs: dict[str, object]) -> Routed:
        routed = _routed_value(config, inputs)
        found, value = _at(routed, config.field)
        route = _route_of(config.cases, value) if found else None
        if route is None and not config.default:
            raise _no_route(config, found, value)
        return Routed(routed, config.default if route is None else route)


def _routed_value(config: SwitchConfig, inputs: dict[str, object]) -> object:
    if not config.input:
        return inputs
    if config.input not in inputs:
        supplied = ", ".join(sorted(inputs)) or "none"
        raise StepError(
            f"the switch needs input {config.input!r}, which nothing supplied; supplied: {supplied}",
            reason=Reason.INPUT_NOT_FOUND,
            metadata={"input": config.input, "supplied": supplied},
        )
    return inputs[config.input]


def _at(value: object, path: str) -> tuple[bool, object]:
    """Whether the path leads somewhere, and where to."""
    try:
        return True, look_up(value, parse_path(path))
    except PathNotFoundError:
        return False, None


def _route_of(cases: Mapping[str, object], value: object) -> str | None:
    if not cases:
        return str(value).lower() if isinstance(value, bool) else None
    return next((route for route, option in _options(cases) if _equal(option, value)), None)


def _options(cases: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for route, value in cases.items():
        for option in value if isinstance(value, list) else [value]:
            yield route, option


def _equal(one: object, other: object) -> bool:
    """Equality of JSON values: Python's `True == 1` is none of them, at any depth."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other


def _path_problems(path: str) -> Iterator[Violation]:
    try:
        parse_path(path)
    except ValueError as error:
        yield Violation("field", str(error))


def _route_problems(path: str, route: str) -> Iterator[Violation]:
    if route == ERROR_ROUTE:
        yield Violation(path, f"{ERROR_ROUTE!r} is the route of steps that fail; choose another name")
    elif not is_name(route):
        yield Violation(path, f"{route!r} cannot name a route: it needs {NAME_RULE}")


def _no_route(config: SwitchConfig, found: bool, value: object) -> StepError:
    routes = ", ".join(config.cases) or "true, false"
    what = f"{config.field!r} of the " if config.field else ""
    what = f"{what}{f'input {config.input!r}' if config.input else 'inputs'}"
    problem = f"is {_shown(value)}, which takes none of the routes" if found else "is not there; the routes are"
    return StepError(
        f"{what} {problem} {routes}; add a case or a default",
        metadata={"field": config.field, "routes": routes},
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}…"
