"""Graphs drawn in layers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torana_server.cli.view import Arrow, graph_lines


def drawn(layers: dict[str, int], arrows: list[Arrow], *, width: int = 80, unicode: bool = True) -> str | None:
    lines = graph_lines(layers, arrows, width=width, unicode=unicode)
    return None if lines is None else "\n".join(line.plain.rstrip() for line in lines)


DIAMOND = {"load": 0, "left": 1, "right": 1, "join": 2}
EDGES = [Arrow("load", "left"), Arrow("load", "right"), Arrow("left", "join"), Arrow("right", "join")]


def test_a_diamond_forks_and_joins() -> None:
    assert (
        drawn(DIAMOND, EDGES)
        == """\
     ┌──────┐
     │ load │
     └──┬───┘
   ┌────┴────┐
┌──▼───┐ ┌───▼───┐
│ left │ │ right │
└──┬───┘ └───┬───┘
   └────┬────┘
     ┌──▼───┐
     │ join │
     └──────┘"""
    )


def test_ascii_stands_in_for_lines() -> None:
    text = drawn({"a": 0, "b": 1}, [Arrow("a", "b")], unicode=False)
    assert text == "+---+\n| a |\n+-+-+\n+-v-+\n| b |\n+---+"


def test_a_route_is_named_above_the_step_it_leads_to() -> None:
    text = drawn({"triage": 0, "high": 1, "low": 1}, [Arrow("triage", "high", ("a",)), Arrow("triage", "low", ("b",))])
    assert text is not None
    row = next(line for line in text.splitlines() if "│a" in line)
    assert "│b" in row


def test_a_route_into_a_step_with_other_ways_in_says_whence_it_comes() -> None:
    text = drawn({"a": 0, "b": 0, "c": 1}, [Arrow("a", "c", ("error",)), Arrow("b", "c")])
    assert "error from a" in str(text)


def test_an_edge_that_skips_a_layer_passes_it_beside_the_boxes() -> None:
    text = drawn({"a": 0, "b": 1, "c": 2}, [Arrow("a", "b"), Arrow("b", "c"), Arrow("a", "c")])
    assert text is not None
    row = next(line for line in text.splitlines() if "│ b │" in line)
    assert row.replace("│ b │", "").strip() == "│"


def test_what_does_not_fit_is_not_drawn() -> None:
    assert drawn({f"a_long_name_{n}": 0 for n in range(9)}, [], width=80) is None


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, int], list[Arrow]]:
    layers = {f"s{n}": layer for n, layer in enumerate(draw(st.lists(st.integers(0, 4), min_size=1, max_size=9)))}
    forward = [(a, b) for a in layers for b in layers if layers[a] < layers[b]]
    chosen = draw(st.lists(st.sampled_from(forward), unique=True, max_size=14)) if forward else []
    return layers, [Arrow(a, b) for a, b in chosen]


@given(graphs())
def test_every_box_is_whole_whatever_the_graph(graph: tuple[dict[str, int], list[Arrow]]) -> None:
    layers, arrows = graph
    text = drawn(layers, arrows, width=10_000)
    assert text is not None
    for name in layers:
        assert text.count(f"│ {name} │") == 1
    targets = {arrow.target for arrow in arrows}
    assert text.count("▼") == len(targets)
