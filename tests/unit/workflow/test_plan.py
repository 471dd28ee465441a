from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from torana_server.workflow import (
    NO_RETRY,
    Connection,
    Definition,
    RetryPolicy,
    Step,
    compile_plan,
    revision_of,
)
from unit.workflow.catalog import Catalog

CATALOG = Catalog()


def edge(source: str, target: str, route: str = "") -> Connection:
    return Connection(from_step=source, to_step=target, route=route)


@st.composite
def graphs(draw: st.DrawFn) -> Definition:
    """Any acyclic graph, its steps written in any order, some edges made by templates alone."""
    hidden = draw(st.permutations([f"s{index}" for index in range(draw(st.integers(1, 7)))]))
    pairs = [(a, b) for i, a in enumerate(hidden) for b in hidden[i + 1 :]]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=10)) if pairs else []
    by_template = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=3)) if chosen else []
    steps = [
        Step(name=name, type="code", inputs={a: f"{{{{{a}}}}}" for a, b in by_template if b == name})
        for name in sorted(hidden)
    ]
    return Definition(name="w", steps=tuple(steps), connections=tuple(edge(a, b) for a, b in chosen))


@given(graphs())
def test_the_order_puts_sources_first_and_else_keeps_what_was_written(definition: Definition) -> None:
    plan = compile_plan(definition, CATALOG)
    written = [step.name for step in definition.steps]
    sources = {name: {e.source for e in step.inbound} | set(step.after) for name, step in plan.steps.items()}
    placed: list[str] = []
    for name in plan.order:
        free = [other for other in written if other not in placed and sources[other] <= set(placed)]
        assert name == free[0]
        placed.append(name)
    assert sorted(placed) == sorted(written)
    assert list(plan.steps) == list(plan.order)
    assert [step.index for step in plan.steps.values()] == list(range(len(written)))


@given(graphs())
def test_edges_levels_and_successors_agree(definition: Definition) -> None:
    plan = compile_plan(definition, CATALOG)
    for name, planned in plan.steps.items():
        sources = {e.source for e in planned.inbound} | set(planned.after)
        assert planned.level == max((plan.steps[source].level + 1 for source in sources), default=0)
        assert all(name in plan.successors[source] for source in sources)
        assert all(e.source == name and e in plan.steps[e.target].inbound for e in planned.outbound)
        order = [plan.steps[other].index for other in plan.successors[name]]
        assert order == sorted(set(order))
    assert sum(map(len, plan.successors.values())) == sum(
        len({e.source for e in planned.inbound} | set(planned.after)) for planned in plan.steps.values()
    )


def test_without_connections_the_steps_form_a_chain() -> None:
    plan = compile_plan(Definition(name="w", steps=tuple(Step(name=n, type="code") for n in "cab")), CATALOG)
    assert plan.order == ("c", "a", "b")
    assert [(e.source, e.target, e.forwards) for p in plan.steps.values() for e in p.outbound] == [
        ("c", "a", True),
        ("a", "b", True),
    ]


def test_a_plan_knows_what_its_steps_and_server_need() -> None:
    policy = RetryPolicy(max_attempts=3)
    steps = (
        Step(name="a", type="code", required_resources=("db", "cache")),
        Step(name="b", type="function", config={"function": "f", "version": "2"}, required_resources=("mail", "db")),
        Step(name="c", type="switch", retry=NO_RETRY),
    )
    plan = compile_plan(Definition(name="w", steps=steps, retry=policy), CATALOG)
    assert plan.required_resources == ("db", "cache", "mail")
    assert plan.requires == {"code", "function", "function:f@2", "switch"}
    assert [planned.retry for planned in plan.steps.values()] == [policy, policy, NO_RETRY]


def test_a_plan_is_untouched_by_later_changes_to_what_it_was_made_of() -> None:
    config: dict[str, object] = {"list": [1.0]}
    definition = Definition(name="w", steps=(Step(name="a", type="switch", config=config),))
    plan = compile_plan(definition, CATALOG)
    before = revision_of(definition)
    config["list"] = 2
    assert plan.definition.steps[0].config == {"list": [1]}
    assert plan.revision == before == revision_of(plan.definition)


def test_the_largest_workflow_compiles() -> None:
    names = [f"s{index}" for index in range(1_000)]
    edges = [edge(a, b) for a, b in pairwise(names)] + [
        edge(names[i], names[i + k]) for i in range(900) for k in range(2, 12)
    ]
    definition = Definition(
        name="w", steps=tuple(Step(name=name, type="code") for name in names), connections=tuple(edges)
    )
    plan = compile_plan(definition, CATALOG)
    assert plan.order == tuple(names)
