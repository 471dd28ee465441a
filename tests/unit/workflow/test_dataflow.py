from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from torana_server.core.errors import InvalidWorkflowError, Reason, StepError
from torana_server.core.values import encode
from torana_server.workflow import (
    Connection,
    Definition,
    Outcome,
    Plan,
    Readiness,
    Step,
    TemplateScope,
    compile_plan,
    config_for,
    error_output,
    inputs_for,
    ready,
)
from unit.workflow import reference
from unit.workflow.catalog import Catalog
from unit.workflow.reference import Ended

CATALOG = Catalog()
NAMES = list("abcdef")
KEYS = ["x", "y", "result"]
ROUTES = ["left", "right"]

values = st.recursive(
    st.integers(0, 3) | st.none() | st.sampled_from(["", "s"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=3)


@st.composite
def connections(draw: st.DrawFn, steps: int) -> list[Connection]:
    """Edges only from earlier to later places of a hidden order, so never a cycle."""
    hidden = draw(st.permutations(NAMES[:steps]))
    pairs = st.tuples(st.integers(0, steps - 1), st.integers(0, steps - 1)).filter(lambda pair: pair[0] < pair[1])
    edge = st.builds(
        lambda pair, path, name, route: Connection(
            from_step=hidden[pair[0]], to_step=hidden[pair[1]], from_output=path, to_input=name, route=route
        ),
        pairs,
        st.sampled_from(["", "", "", "x", "result", "result.x", "y.0", "x.y", "result.result"]),
        st.sampled_from(["", "", "x", "other"]),
        st.sampled_from(["", "", "", "error", *ROUTES]),
    )
    return draw(st.lists(edge, max_size=8, unique=True))


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    count = draw(st.integers(1, len(NAMES)))
    steps = tuple(
        Step(name=name, type="switch", config={"routes": ROUTES}, inputs=draw(objects)) for name in NAMES[:count]
    )
    edges = draw(connections(count)) if count > 1 else []
    return Definition(name="w", steps=steps, connections=tuple(edges))


def compiled(definition: Definition) -> Plan:
    """Definitions whose connections compete for an input are not valid; they are another test's business."""
    try:
        return compile_plan(definition, CATALOG)
    except InvalidWorkflowError:
        assume(False)
        raise


ends = st.one_of(
    st.builds(lambda value, route: Ended("completed", value, route), values | objects, st.sampled_from(["", *ROUTES])),
    st.builds(lambda value: Ended("failed", {"type": "E", "message": value, "x": 1}), values),
)


def outcome_of(end: Ended) -> Outcome:
    if end.kind == "completed":
        return Outcome(encode(end.value), end.route)
    return Outcome(None, error=encode(end.value)) if end.kind == "failed" else Outcome(None)


@settings(max_examples=400)
@given(definitions(), objects, st.data())
def test_every_step_runs_or_is_skipped_with_the_inputs_the_specification_says(
    definition: Definition, parameters: dict[str, Any], data: st.DataObject
) -> None:
    plan = compiled(definition)
    assert list(plan.order) == reference.plan_order(definition)
    scope = TemplateScope(encode(parameters))
    ended: dict[str, Ended] = {}
    outcomes: dict[str, Outcome] = {}
    for name in plan.order:
        for other in plan.order:
            assert ready(plan.steps[other], outcomes).value == reference.decision(definition, other, ended)
        if ready(plan.steps[name], outcomes) is Readiness.SKIP:
            ended[name] = Ended("skipped")
        else:
            ended[name] = run(plan, name, scope, outcomes, reference.inputs(definition, name, parameters, ended), data)
        outcomes[name] = outcome_of(ended[name])


def run(
    plan: Plan,
    name: str,
    scope: TemplateScope,
    outcomes: dict[str, Outcome],
    expected: dict[str, Any] | None,
    data: st.DataObject,
) -> Ended:
    """Compares the inputs, then ends the step: as the engine would when one is missing, else as drawn."""
    if expected is None:
        with pytest.raises(StepError) as caught:
            inputs_for(plan, name, scope, outcomes)
        assert caught.value.reason is Reason.INPUT_NOT_FOUND
        return Ended("failed", {"type": "E", "message": "missing"})
    assert inputs_for(plan, name, scope, outcomes) == expected
    assert inputs_for(plan, name, scope, outcomes) == expected
    return data.draw(ends, label=name)


def plan_of(*connections: Connection, steps: str = "abc", **parts: Step) -> Plan:
    written = tuple(parts.get(name) or Step(name=name, type="switch", config={"routes": ROUTES}) for name in steps)
    return compile_plan(Definition(name="w", steps=written, connections=connections), CATALOG)


def edge(source: str, target: str, output: str = "", name: str = "", route: str = "") -> Connection:
    return Connection(from_step=source, to_step=target, from_output=output, to_input=name, route=route)


def done(value: object, route: str = "") -> Outcome:
    return Outcome(encode(value), route)


NOTHING = TemplateScope()


def test_without_connections_each_step_sees_what_all_before_it_produced() -> None:
    plan = plan_of()
    outcomes = {"a": done({"x": 1, "y": 1}), "b": done({"y": 2})}
    assert inputs_for(plan, "c", TemplateScope(encode({"x": 0, "z": 0})), outcomes) == {"x": 1, "y": 2, "z": 0}


def test_an_output_that_is_no_object_adds_only_the_key_result() -> None:
    assert inputs_for(plan_of(steps="ab"), "b", NOTHING, {"a": done([1])}) == {"result": [1]}
    assert inputs_for(plan_of(steps="ab"), "b", NOTHING, {"a": done(None)}) == {"result": None}


def test_named_inputs_win_over_scopes_and_static_inputs_over_both() -> None:
    plan = plan_of(
        edge("a", "c"),
        edge("b", "c", "v", "x"),
        edge("b", "c", "v", "y"),
        c=Step(name="c", type="code", inputs={"y": "static"}),
    )
    outcomes = {"a": done({"x": 1, "y": 1, "z": 1}), "b": done({"v": 2})}
    assert inputs_for(plan, "c", NOTHING, outcomes) == {"x": 2, "y": "static", "z": 1}


def test_static_inputs_and_parameters_are_not_forwarded() -> None:
    plan = plan_of(steps="ab", a=Step(name="a", type="code", inputs={"secret": 1}))
    assert inputs_for(plan, "b", TemplateScope(encode({"p": 1})), {"a": done({})}) == {"p": 1}


def test_named_inputs_that_a_step_received_are_forwarded_with_its_output() -> None:
    plan = plan_of(edge("a", "b", "x", "y"), edge("b", "c"))
    outcomes = {"a": done({"x": 1, "hidden": 1}), "b": done({"z": 2})}
    assert inputs_for(plan, "c", NOTHING, outcomes) == {"y": 1, "z": 2}


def test_later_in_plan_order_wins_whichever_finished_first() -> None:
    plan = plan_of(edge("a", "c"), edge("b", "c"))
    for outcomes in ({"a": done({"k": "a"}), "b": done({"k": "b"})}, {"b": done({"k": "b"}), "a": done({"k": "a"})}):
        assert inputs_for(plan, "c", NOTHING, outcomes) == {"k": "b"}


def test_a_missing_path_names_the_path_and_the_keys_that_exist() -> None:
    plan = plan_of(edge("a", "b", "rows.0.name", "name"), steps="ab")
    with pytest.raises(StepError) as caught:
        inputs_for(plan, "b", NOTHING, {"a": done({"rows": [{"id": 1, "title": "t"}]})})
    assert caught.value.reason is Reason.INPUT_NOT_FOUND
    assert "rows.0.name" in caught.value.message
    assert "the keys id, title" in caught.value.message
    assert caught.value.metadata == {"path": "rows.0.name", "step": "a", "input": "name"}


@pytest.mark.parametrize(
    ("path", "picked"),
    [
        ("result", {"a.b": 1, "result": 2, "rows": [{"id": 3}]}),
        ("result.result", 2),
        ("rows.0.id", 3),
        ("result.rows.0.id", 3),
        (r"a\.b", 1),
    ],
)
def test_paths_lead_into_the_output(path: str, picked: object) -> None:
    plan = plan_of(edge("a", "b", path, "in"), steps="ab")
    assert inputs_for(plan, "b", NOTHING, {"a": done({"a.b": 1, "result": 2, "rows": [{"id": 3}]})}) == {"in": picked}


def test_a_path_without_an_input_name_sets_the_input_of_its_last_part() -> None:
    plan = plan_of(edge("a", "b", "result.users"), steps="ab")
    assert inputs_for(plan, "b", NOTHING, {"a": done({"users": [1]})}) == {"users": [1]}


def test_inputs_share_no_object_with_each_other_or_with_the_next_attempt() -> None:
    plan = plan_of(edge("a", "b", "v", "left"), edge("a", "b", "v", "right"), edge("a", "b"), steps="ab")
    outcomes = {"a": done({"v": [1]})}
    first = inputs_for(plan, "b", NOTHING, outcomes)
    first["left"].append(2)
    assert (first["right"], first["v"]) == ([1], [1])
    assert inputs_for(plan, "b", NOTHING, outcomes)["left"] == [1]


def test_values_keep_their_types_between_steps() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    assert inputs_for(plan_of(steps="ab"), "b", NOTHING, {"a": done({"at": at, "pair": (1, 2)})}) == {
        "at": at,
        "pair": (1, 2),
    }


def test_an_error_route_hands_on_the_error_and_what_was_forwarded_to_the_step() -> None:
    plan = plan_of(edge("a", "b"), edge("b", "c", route="error"))
    failed = Outcome(None, error=error_output("ValueError", "no", 2, {"k": "v"}))
    outcomes = {"a": done({"x": 1}), "b": failed}
    assert plan.steps["b"].error_handled
    assert not plan.steps["a"].error_handled
    assert ready(plan.steps["c"], outcomes) is Readiness.RUN
    expected = {"x": 1, "type": "ValueError", "message": "no", "attempt": 2, "details": {"k": "v"}}
    assert inputs_for(plan, "c", NOTHING, outcomes) == expected


def test_paths_of_error_routes_lead_into_the_error() -> None:
    plan = plan_of(edge("a", "b", "message", "why", "error"), steps="ab")
    failed = Outcome(None, error=error_output("ValueError", "no", 1, {}))
    assert inputs_for(plan, "b", NOTHING, {"a": failed}) == {"why": "no"}


def test_a_step_that_failed_for_a_missing_input_still_forwards_to_its_handler() -> None:
    plan = plan_of(edge("a", "b", "gone", "g"), edge("b", "c", route="error"))
    failed = Outcome(None, error=error_output("INPUT_NOT_FOUND", "no", 1, {}))
    assert inputs_for(plan, "c", NOTHING, {"a": done({}), "b": failed})["type"] == "INPUT_NOT_FOUND"


def test_a_join_of_exclusive_routes_takes_the_one_that_ran() -> None:
    plan = plan_of(
        edge("a", "b", route="left"),
        edge("a", "c", route="right"),
        edge("b", "d", "v", "v"),
        edge("c", "d", "v", "v"),
        steps="abcd",
    )
    outcomes = {"a": done(1, "right")}
    assert ready(plan.steps["b"], outcomes) is Readiness.SKIP
    outcomes |= {"b": Outcome(None), "c": done({"v": "c"})}
    assert ready(plan.steps["d"], outcomes) is Readiness.RUN
    assert inputs_for(plan, "d", NOTHING, outcomes) == {"v": "c"}


def test_a_skipped_source_supplies_nothing_not_null() -> None:
    plan = plan_of(edge("a", "c", "v", "x"), edge("b", "c", "v", "y"))
    outcomes = {"a": Outcome(None), "b": done({"v": 1})}
    assert inputs_for(plan, "c", NOTHING, outcomes) == {"y": 1}


def templated(**inputs: object) -> Step:
    return Step(name="c", type="code", inputs=inputs)


def test_a_template_delays_its_step_and_supplies_nothing_else() -> None:
    plan = plan_of(edge("a", "b"), c=templated(v="{{a.x}}"))
    assert plan.steps["c"].after == ("a",)
    assert plan.successors["a"] == ("b", "c")
    assert ready(plan.steps["c"], {}) is Readiness.WAIT
    outcomes = {"a": done({"x": 1, "y": 2})}
    assert ready(plan.steps["c"], outcomes) is Readiness.RUN
    assert inputs_for(plan, "c", NOTHING, outcomes) == {"v": 1}


def test_a_step_that_only_templates_tie_to_others_is_skipped_when_none_of_them_completed() -> None:
    plan = plan_of(edge("a", "b"), c=templated(v="{{a.x}}"))
    assert ready(plan.steps["c"], {"a": Outcome(None)}) is Readiness.SKIP


def test_a_template_edge_does_not_count_as_a_connection_that_was_taken() -> None:
    plan = plan_of(edge("b", "c", route="left"), c=templated(v="{{a.x}}"))
    outcomes = {"a": done({"x": 1}), "b": done({}, "right")}
    assert ready(plan.steps["c"], outcomes) is Readiness.SKIP


def test_static_inputs_and_config_are_rendered_from_everything_the_run_knows() -> None:
    config = {"routes": [], "url": "https://${env.HOST}/${id}", "at": "${parameters.at}", "who": "${session.user_id}"}
    step = Step(name="b", type="switch", config=config, inputs={"rows": "{{a.rows}}", "user": "${context.user}"})
    plan = plan_of(steps="ab", b=step)
    at = datetime(2024, 1, 1, tzinfo=UTC)
    scope = TemplateScope(
        encode({"id": 7, "at": at}), encode({"user": "u"}), {"tenant_id": "t", "user_id": "me"}, {"HOST": "h"}
    )
    outcomes = {"a": done({"rows": [1]})}
    assert config_for(plan, "b", scope, outcomes) == {"routes": [], "url": "https://h/7", "at": at, "who": "me"}
    assert inputs_for(plan, "b", scope, outcomes) == {"id": 7, "at": at, "rows": [1], "user": "u"}
