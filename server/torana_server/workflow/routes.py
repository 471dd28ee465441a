"""What is wrong with the way data flows: cycles, routes nobody takes, inputs with two sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from torana_server.core.errors import Violation
from torana_server.core.names import did_you_mean
from torana_server.workflow.definition import ERROR_ROUTE, Definition, Step
from torana_server.workflow.graph import Edge, cycles, edge_of, edges_of, ordered
from torana_server.workflow.ports import StepCatalog
from torana_server.workflow.templates import compile_template

Condition = frozenset[tuple[str, str]]
"""Routes, as (step, route), that must all have been taken for something to happen."""


def order_sources(step: Step, catalog: StepCatalog | None) -> tuple[str, ...]:
    """The steps whose outputs the templates of a step name. Config counts only where its literal fields are known."""
    spec = catalog.get(step.type) if catalog else None
    config = compile_template(step.config, "", spec.literal_fields)[0].steps if spec else ()
    inputs = compile_template(step.inputs, "")[0].steps
    return tuple(dict.fromkeys((*config, *inputs)))


def flow_problems(definition: Definition, catalog: StepCatalog | None) -> Iterator[Violation]:
    """Silent about connections to steps that do not exist and about names used twice: others report those."""
    names = [step.name for step in definition.steps]
    if len(set(names)) < len(names):
        return
    if catalog is not None:
        yield from _route_problems(definition, catalog)
    try:
        edges = edges_of(definition)
    except ValueError:
        return
    known = set(names)
    sound = [edge for edge in edges if edge.source in known and edge.target in known]
    after = {
        step.name: [source for source in order_sources(step, catalog) if source in known - {step.name}]
        for step in definition.steps
    }
    sources = {name: set(before) for name, before in after.items()}
    for edge in sound:
        sources[edge.target].add(edge.source)
    found = cycles(sources)
    for cycle in found:
        yield Violation("connections", f"the steps form a cycle: {_named(cycle, sound)}")
    if not found and len(sound) == len(edges):
        yield from _conflicts(definition, sound, after)


def _named(cycle: tuple[str, ...], edges: list[Edge]) -> str:
    """a → b → a, with a note on steps that only a template joins."""
    joined = {(edge.source, edge.target) for edge in edges}
    text = cycle[0]
    for source, target in pairwise(cycle):
        text += f" → {target}" if (source, target) in joined else f" → {target} (by a template)"
    return text


# routes


def _route_problems(definition: Definition, catalog: StepCatalog) -> Iterator[Violation]:
    steps = {step.name: step for step in definition.steps}
    for index, connection in enumerate(definition.connections):
        step = steps.get(connection.from_step)
        spec = catalog.get(step.type) if step else None
        if step is None or spec is None or connection.route in ("", ERROR_ROUTE):
            continue
        routes = spec.routes(step.config)
        if connection.route not in routes:
            message = _unreachable(step, connection.route, sorted(routes))
            yield Violation(f"connections[{index}].route", message)


def _unreachable(step: Step, route: str, routes: list[str]) -> str:
    if not routes:
        return f"can never be taken: step {step.name!r} of type {step.type!r} has no routes but {ERROR_ROUTE!r}"
    near = did_you_mean(route, routes) or f"; it has {', '.join(routes)}"
    return f"can never be taken: step {step.name!r} has no route {route!r}{near}"


# two connections into one input


def _conflicts(definition: Definition, edges: list[Edge], after: Mapping[str, list[str]]) -> Iterator[Violation]:
    into: dict[tuple[str, str], list[int]] = {}
    for index, connection in enumerate(definition.connections):
        edge = edge_of(connection)
        if not edge.forwards:
            into.setdefault((edge.target, edge.to_input), []).append(index)
    shared = {target: indexes for target, indexes in into.items() if len(indexes) > 1}
    if not shared:
        return
    conditions = _conditions([step.name for step in definition.steps], edges, after)
    for (target, name), indexes in shared.items():
        taken = {index: _taken(edges[index], conditions) for index in indexes}
        for place, second in enumerate(indexes):
            first = next((index for index in indexes[:place] if not _exclude(taken[index], taken[second])), None)
            if first is not None:
                message = f"input {name!r} of step {target!r} is also set by connections[{first}]"
                yield Violation(f"connections[{second}]", f"{message}; only exclusive routes may share an input")


def _conditions(names: list[str], edges: list[Edge], after: Mapping[str, list[str]]) -> dict[str, Condition]:
    """What must have happened for each step to run: what all ways into it have in common."""
    inbound: dict[str, list[Edge]] = {name: [] for name in names}
    for edge in edges:
        inbound[edge.target].append(edge)
    sources = {name: [*(edge.source for edge in inbound[name]), *after[name]] for name in names}
    branching = {edge.source for edge in edges if edge.route}
    result: dict[str, Condition] = {}
    for name in ordered(names, sources):
        ways = inbound[name] or [Edge(source, name) for source in after[name]]
        taken = [_taken(edge, result, branching) for edge in ways]
        result[name] = frozenset.intersection(*taken) if taken else frozenset()
    return result


def _taken(edge: Edge, conditions: Mapping[str, Condition], branching: set[str] | None = None) -> Condition:
    """What must have happened for an edge to be taken. Only steps with routes can tell two edges apart."""
    own = {(edge.source, edge.route)} if branching is None or edge.source in branching else set()
    return conditions[edge.source] | own


def _exclude(first: Condition, second: Condition) -> bool:
    """Whether the two can never both hold: some step would have to take two routes, or fail and complete."""
    return any(
        step == other and route != other_route and (ERROR_ROUTE in (route, other_route) or (route and other_route))
        for step, route in first
        for other, other_route in second
    )
