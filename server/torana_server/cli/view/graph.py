"""A graph drawn in layers from top to bottom, with lines that turn at right angles.

An edge that skips layers passes through each by a point of its own. Points of a layer are ordered and placed near the
mean of what they are joined to, without overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rich.text import Text

from torana_server.cli.view.canvas import Canvas

BOX_HEIGHT = 3
GAP = 2
SWEEPS = 6


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one node to another of a later layer. `labels` are written above the target, with the source where arrows
    with others, or with none, also lead there."""

    source: str
    target: str
    labels: tuple[str, ...] = ()


@dataclass(slots=True)
class _Point:
    """A node, or a place where an edge passes a layer (then `name` is empty). `x` is its middle."""

    name: str
    layer: int
    above: list[_Point] = field(default_factory=list)
    below: list[_Point] = field(default_factory=list)
    labels: dict[str, None] = field(default_factory=dict)
    x: float = 0.0

    @property
    def left(self) -> int:
        """Cells to the left of the middle."""
        return (len(self.name) + 3) // 2 if self.name else 0

    @property
    def right(self) -> int:
        label = len(self.label) + 1 if self.label else 0
        return max((len(self.name) + 4) // 2 if self.name else 0, label)

    @property
    def label(self) -> str:
        return ", ".join(self.labels)


def graph_lines(layers: Mapping[str, int], arrows: Iterable[Arrow], *, width: int, unicode: bool) -> list[Text] | None:
    """The drawing, or None when it does not fit into `width`. `layers` gives each node's, from 0."""
    rows = _rows(layers, arrows)
    for row in rows:
        _place(row, lambda point: 0.0)
    for _ in range(SWEEPS):
        _sweep(rows[1:], lambda point: point.above)
        _sweep(rows[-2::-1], lambda point: point.below)
    margin = min((point.x - point.left for row in rows for point in row), default=0.0)
    for point in (point for row in rows for point in row):
        point.x = round(point.x - margin)
    lines = _drawn(rows, unicode=unicode)
    return lines if max((line.cell_len for line in lines), default=0) <= width else None


# layers


def _rows(layers: Mapping[str, int], arrows: Iterable[Arrow]) -> list[list[_Point]]:
    rows: list[list[_Point]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
    arrows = list(arrows)
    nodes = {name: _Point(name, layer) for name, layer in layers.items()}
    for node in nodes.values():
        rows[node.layer].append(node)
    for arrow in arrows:
        chain = [nodes[arrow.source]]
        for layer in range(layers[arrow.source] + 1, layers[arrow.target]):
            chain.append(_Point("", layer))
            rows[layer].append(chain[-1])
        chain.append(nodes[arrow.target])
        alike = all(other.labels == arrow.labels for other in arrows if other.target == arrow.target)
        told = arrow.labels if alike else [f"{label} from {arrow.source}" for label in arrow.labels]
        nodes[arrow.target].labels.update(dict.fromkeys(told))
        for upper, lower in pairwise(chain):
            upper.below.append(lower)
            lower.above.append(upper)
    return rows


def _sweep(rows: Sequence[list[_Point]], neighbours: Callable[[_Point], list[_Point]]) -> None:
    def wanted(point: _Point) -> float:
        near = neighbours(point)
        return sum(one.x for one in near) / len(near) if near else point.x

    for row in rows:
        row.sort(key=wanted)
        _place(row, wanted)


def _place(row: Sequence[_Point], wanted: Callable[[_Point], float]) -> None:
    """As near to where each wants to be as the order and the gaps allow: the least squares, by merging neighbours."""
    offsets = [0.0]
    for one, other in pairwise(row):
        offsets.append(offsets[-1] + one.right + GAP + other.left)
    blocks: list[list[float]] = []
    for point, offset in zip(row, offsets, strict=False):
        blocks.append([wanted(point) - offset])
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            merged = blocks.pop()
            blocks[-1].extend(merged)
    places = [_mean(block) for block in blocks for _ in block]
    for point, place, offset in zip(row, places, offsets, strict=False):
        point.x = place + offset


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# drawing


def _drawn(rows: Sequence[Sequence[_Point]], *, unicode: bool) -> list[Text]:
    canvas, y = Canvas(unicode=unicode), 0
    for row, below in pairwise([*rows, []]):
        for point in row:
            _draw_point(canvas, point, y)
        bottom = y + BOX_HEIGHT - 1
        tracks = _tracks(row)
        y = bottom + max(tracks.values(), default=0) + (2 if any(point.label for point in below) else 1)
        for point in row:
            for target in point.below:
                _draw_edge(canvas, point, target, bottom, bottom + tracks.get(int(point.x), 0), y)
        for target in below:
            style = "red" if target.label.startswith("error") else "dim"
            canvas.write(int(target.x) + 1, y - 1, target.label, style)
            if target.name and target.above:
                canvas.write(int(target.x), y, "▼" if unicode else "v")
    return canvas.lines()


def _draw_point(canvas: Canvas, point: _Point, y: int) -> None:
    x = int(point.x)
    if not point.name:
        canvas.line(x, y, x, y + BOX_HEIGHT - 1)
        return
    canvas.box(x - point.left, y, len(point.name) + 4, BOX_HEIGHT)
    canvas.write(x - point.left + 2, y + 1, point.name, "bold")


def _draw_edge(canvas: Canvas, source: _Point, target: _Point, top: int, track: int, bottom: int) -> None:
    from_x, to_x = int(source.x), int(target.x)
    if from_x == to_x:
        canvas.line(from_x, top, from_x, bottom)
        return
    canvas.line(from_x, top, from_x, track)
    canvas.line(from_x, track, to_x, track)
    canvas.line(to_x, track, to_x, bottom)


def _tracks(row: Sequence[_Point]) -> dict[int, int]:
    """For the middle of each point, how many lines below the row its edges turn. Those that would touch turn apart,
    unless they lead to one and the same target."""
    targets = {int(point.x): {int(target.x) for target in point.below} for point in row if point.below}
    turning = {x: (min(x, *ends), max(x, *ends)) for x, ends in targets.items() if ends != {x}}
    tracks: dict[int, int] = {}
    for x, span in sorted(turning.items(), key=lambda item: _turn_order(item[0], item[1])):
        apart = {
            tracks[other]
            for other in tracks
            if turning[other][0] <= span[1] and span[0] <= turning[other][1]
            if not (len(targets[x]) == 1 and targets[x] == targets[other])
        }
        tracks[x] = next(track for track in range(1, len(turning) + 1) if track not in apart)
    return tracks


def _turn_order(x: int, span: tuple[int, int]) -> tuple[bool, int]:
    """Edges to the right turn first from the right, those to the left first from the left: so the fewest cross."""
    to_the_right = span[1] - x >= x - span[0]
    return (to_the_right, -x if to_the_right else x)
