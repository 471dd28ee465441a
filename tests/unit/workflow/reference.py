"""Data flow written a second time, straight from the specification's sentences and with no thought for speed.

It reads definitions, not plans, and knows values only as Python objects.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torana_server.workflow import Connection, Definition

MISSING = object()


@dataclass(frozen=True)
class Ended:
    """How a step ended. `kind` is completed, failed or skipped."""

    kind: str
    value: Any = None
    route: str = ""


def connections_of(definition: Definition) -> list[Connection]:
    if definition.connections:
        return list(definition.connections)
    names = [step.name for step in definition.steps]
    return [Connection(from_step=names[i], to_step=names[i + 1]) for i in range(len(names) - 1)]


def plan_order(definition: Definition) -> list[str]:
    """Of the steps whose sources are all placed, the one written first comes next."""
    order: list[str] = []
    names = [step.name for step in definition.steps]
    while len(order) < len(names):
        order.append(
            next(
                name
                for name in names
                if name not in order
                and all(c.from_step in order for c in connections_of(definition) if c.to_step == name)
            )
        )
    return order


def taken(connection: Connection, ended: Ended) -> bool:
    if connection.route == "error":
        return ended.kind == "failed"
    return ended.kind == "completed" and (connection.route == "" or connection.route == ended.route)


def decision(definition: Definition, name: str, ends: dict[str, Ended]) -> str:
    into = [c for c in connections_of(definition) if c.to_step == name]
    if not into:
        return "run"
    if any(c.from_step not in ends for c in into):
        return "wait"
    return "run" if any(taken(c, ends[c.from_step]) for c in into) else "skip"


def path_of(text: str) -> list[str]:
    parts = text.split(".") if text else []
    return parts[1:] if parts[:1] == ["result"] else parts


def find(value: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return copy.deepcopy(value)


def named_inputs(definition: Definition, name: str, ends: dict[str, Ended]) -> dict[str, Any]:
    received = {}
    for c in connections_of(definition):
        is_named = c.from_output or c.to_input
        if c.to_step == name and is_named and taken(c, ends[c.from_step]):
            received[c.to_input or c.from_output.split(".")[-1]] = find(ends[c.from_step].value, path_of(c.from_output))
    return received


def forwarders(definition: Definition, name: str, ends: dict[str, Ended]) -> set[str]:
    direct = {
        c.from_step
        for c in connections_of(definition)
        if c.to_step == name and not c.from_output and not c.to_input and taken(c, ends[c.from_step])
    }
    return direct.union(*(forwarders(definition, source, ends) for source in direct))


def inputs(
    definition: Definition, name: str, parameters: dict[str, Any], ends: dict[str, Ended]
) -> dict[str, Any] | None:
    """None when a path is missing from an output, which fails the step."""
    result = copy.deepcopy(parameters)
    behind = forwarders(definition, name, ends)
    for source in plan_order(definition):
        if source in behind:
            received = named_inputs(definition, source, ends)
            result.update({key: value for key, value in received.items() if value is not MISSING})
            value = copy.deepcopy(ends[source].value)
            result.update(value if isinstance(value, dict) else {"result": value})
    own = named_inputs(definition, name, ends)
    if any(value is MISSING for value in own.values()):
        return None
    static = next(step.inputs for step in definition.steps if step.name == name)
    return {**result, **own, **copy.deepcopy(dict(static))}
