"""The edges of a definition and the order they imply."""

from __future__ import annotations

import graphlib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torana_server.workflow.definition import Connection, Definition
from torana_server.workflow.paths import Path, parse_path, within_output

CYCLES_REPORTED_MAX = 20


@dataclass(frozen=True, slots=True)
class Edge:
    """A connection, ready to be followed. With an empty `to_input` it forwards the scope."""

    source: str
    target: str
    route: str = ""
    path: Path = ()
    to_input: str = ""
    from_output: str = ""
    """`path` as it was written, for messages."""

    @property
    def forwards(self) -> bool:
        return not self.to_input


def edge_of(connection: Connection) -> Edge:
    """Raises ValueError for a `from_output` that is not a path. Without `to_input` its last part names the input."""
    path = parse_path(connection.from_output)
    return Edge(
        source=connection.from_step,
        target=connection.to_step,
        route=connection.route,
        path=within_output(path),
        to_input=connection.to_input or (path[-1] if path else ""),
        from_output=connection.from_output,
    )


def edges_of(definition: Definition) -> tuple[Edge, ...]:
    """Its connections; without any, each step forwards its scope to the next in the order they were written."""
    if definition.connections:
        return tuple(edge_of(connection) for connection in definition.connections)
    return tuple(Edge(first.name, second.name) for first, second in pairwise(definition.steps))


def ordered(names: Sequence[str], sources: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Names so that sources come first and, where that leaves a choice, in the order given. Needs an acyclic graph."""
    index = {name: position for position, name in enumerate(names)}
    waiting = {name: len(set(sources[name])) for name in names}
    targets: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        for source in set(sources[name]):
            targets[source].append(name)
    ready = [index[name] for name in names if not waiting[name]]
    result: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        result.append(name)
        for target in targets[name]:
            waiting[target] -= 1
            if not waiting[target]:
                heapq.heappush(ready, index[target])
    return tuple(result)


def cycles(sources: Mapping[str, Iterable[str]]) -> list[tuple[str, ...]]:
    """Cycles in the direction of the data, the first name repeated at the end; one is left out of each found."""
    graph = {name: set(before) for name, before in sources.items()}
    found: list[tuple[str, ...]] = []
    while len(found) < CYCLES_REPORTED_MAX:
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            cycle: list[str] = error.args[1]
            found.append(tuple(cycle))
            graph[cycle[1]].discard(cycle[0])
        else:
            break
    return found


def levels(order: Sequence[str], sources: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """The length of the longest way to each step. Steps of one level do not wait for each other."""
    result: dict[str, int] = {}
    for name in order:
        result[name] = max((result[source] + 1 for source in sources[name]), default=0)
    return result
