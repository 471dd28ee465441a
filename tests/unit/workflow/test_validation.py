from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from torana_server.core.errors import InvalidWorkflowError, Violation
from torana_server.workflow import (
    Connection,
    Definition,
    RetryPolicy,
    Step,
    StepTimeout,
    compile_plan,
)
from unit.workflow.catalog import Catalog

CATALOG = Catalog()


def code(name: str, **fields: object) -> Step:
    return Step(name=name, type="code", **fields)  # type: ignore[arg-type]  # the fields are the test's own


def switch(name: str, *routes: str) -> Step:
    return Step(name=name, type="switch", config={"routes": list(routes)})


def edge(source: str, target: str, output: str = "", name: str = "", route: str = "") -> Connection:
    return Connection(from_step=source, to_step=target, from_output=output, to_input=name, route=route)


def workflow(*steps: Step, connections: tuple[Connection, ...] = (), **fields: object) -> Definition:
    return Definition(name="w", steps=steps, connections=connections, **fields)  # type: ignore[arg-type]  # as above


def problems_of(definition: Definition) -> list[str]:
    with pytest.raises(InvalidWorkflowError) as caught:
        compile_plan(definition, CATALOG)
    assert all(isinstance(violation, Violation) for violation in caught.value.violations)
    return [str(violation) for violation in caught.value.violations]


RULE = "a letter, then up to 127 letters, digits, '_' or '-'"
ADVICE = "put it into the vault and name its secret in the step's credentials_ref"
EXCLUSIVE = "only exclusive routes may share an input"


@pytest.mark.parametrize(
    ("definition", "problems"),
    [
        (Definition(name="w", steps=()), ["steps: a workflow needs at least one step"]),
        (
            workflow(*(code(f"s{i}") for i in range(1_001))),
            ["steps: 1,001 steps; at most 1,000 are allowed"],
        ),
        (
            workflow(code("a"), code("b"), connections=(edge("a", "b"),) * 10_001),
            ["connections: 10,001 connections; at most 10,000 are allowed"],
        ),
        (
            workflow(code("a", config={"source": "x" * 2**20})),
            ["the definition has 1,048,648 bytes as JSON; at most 1,048,576 are allowed"],
        ),
        (dataclasses.replace(workflow(code("a")), name="1w"), [f"name: '1w' is not a name: it must be {RULE}"]),
        (workflow(code("a b")), [f"steps[0].name: 'a b' is not a name: it must be {RULE}"]),
        (
            workflow(code("a"), code("b"), code("a")),
            [
                "steps[0].name: 'a' names 2 steps; names are unique",
                "steps[2].name: 'a' names 2 steps; names are unique",
            ],
        ),
        (
            workflow(code("a"), labels={"": "x", "long": "y" * 257}),
            ["labels.: a label's name has from 1 to 128 characters", "labels.long: longer than 256 characters"],
        ),
        (
            workflow(code("a"), labels={f"l{i}": "" for i in range(65)}),
            ["labels: 65 labels; at most 64 are allowed"],
        ),
        (workflow(code("a"), timeout_s=0.0), ["timeout: must be more than 0 s, not 0 s"]),
        (workflow(code("a"), timeout_s=-1.0), ["timeout: must be more than 0 s, not -1 s"]),
        (workflow(code("a"), timeout_s=math.inf), ["timeout: inf s is longer than the 100 years allowed"]),
        (
            workflow(code("a"), description="\ud800"),
            [
                "description: the value at '/description' cannot be stored: it holds half of a surrogate pair, which "
                "UTF-8 cannot carry"
            ],
        ),
        (workflow(code("a"), durability_steps=0), ["durability_steps: must be at least 1, not 0"]),
        (
            workflow(code("a", retry=RetryPolicy(initial_interval_s=3_600))),
            ["steps[0].retry.initial_interval: 3600 s is above max_interval, 60 s; raise max_interval"],
        ),
        (
            workflow(
                code(
                    "a",
                    retry=RetryPolicy(
                        max_attempts=0,
                        initial_interval_s=-1,
                        max_interval_s=1e99,
                        backoff=0.5,
                        jitter=2,
                        retry_on=("",),
                    ),
                    timeout=StepTimeout(attempt_s=0, total_s=-2),
                ),
                retry=RetryPolicy(max_attempts=-1),
            ),
            [
                "retry.max_attempts: must be at least 1, not -1",
                "steps[0].retry.max_attempts: must be at least 1, not 0",
                "steps[0].retry.initial_interval: must be at least 0 s, not -1 s",
                "steps[0].retry.max_interval: 1e+99 s is longer than the 100 years allowed",
                "steps[0].retry.backoff: must be from 1 to 1,000, not 0.5",
                "steps[0].retry.jitter: must be from 0 to 1, not 2",
                "steps[0].retry.retry_on[0]: is empty; name an error type or reason",
                "steps[0].timeout.attempt: must be more than 0 s, not 0 s",
                "steps[0].timeout.total: must be more than 0 s, not -2 s",
            ],
        ),
        (
            workflow(Step(name="a", type="coed")),
            ["steps[0].type: there is no step type 'coed' (did you mean 'code'?)"],
        ),
        (
            workflow(Step(name="a", type="xyzzy")),
            ["steps[0].type: there is no step type 'xyzzy'; known are code, function, http_request, switch"],
        ),
        (workflow(Step(name="a", type="")), ["steps[0].type: is required"]),
        (
            workflow(Step(name="a", type="http_request", config={"ulr": "x", "method": "GET"})),
            ["steps[0].config.ulr: unknown key", "steps[0].config.method: unknown key"],
        ),
        (
            workflow(code("a", required_resources=("db", "no db", "db"), credentials_ref="a/b")),
            [
                f"steps[0].required_resources[1]: 'no db' is not a name: it must be {RULE}",
                "steps[0].required_resources[2]: 'db' is there twice",
                f"steps[0].credentials_ref: 'a/b' is not a name: it must be {RULE}",
            ],
        ),
        (
            workflow(
                code("a", config={"x": [{"y": math.nan}]}, timeout=StepTimeout(attempt_s=0)),
                code("b", inputs={"at": datetime(2024, 1, 1, tzinfo=UTC)}),
            ),
            [
                "steps[0].config.x[0].y: the value at '/x/0/y' cannot be stored: it is nan, and JSON has finite "
                "numbers only; use None or a string instead",
                "steps[0].timeout.attempt: must be more than 0 s, not 0 s",
                "steps[1].inputs.at: is a datetime, which JSON lacks; write it as text or a number",
            ],
        ),
        (
            workflow(code("load"), code("b"), connections=(edge("laod", "b"), edge("load", "nowhere"))),
            [
                "connections[0].from_step: there is no step 'laod' (did you mean 'load'?)",
                "connections[1].to_step: there is no step 'nowhere'",
            ],
        ),
        (
            workflow(code("a"), code("b"), connections=(edge("a", "b", "x..y"), edge("a", "b", "x\\"))),
            [
                "connections[0].from_output: 'x..y' is not a path: keys are joined by single dots, and '\\.' is a dot "
                "in a key",
                "connections[1].from_output: 'x\\\\' is not a path: it ends in a backslash that escapes nothing",
            ],
        ),
        (
            workflow(code("a"), code("b"), connections=(edge("a", "b"), edge("a", "b"))),
            ["connections[1]: is the same as connections[0]"],
        ),
    ],
)
def test_every_fault_is_named_with_its_path(definition: Definition, problems: list[str]) -> None:
    assert problems_of(definition) == problems


@pytest.mark.parametrize(
    ("definition", "links"),
    [
        (
            workflow(code("a"), code("b"), code("c"), connections=(edge("a", "b"), edge("b", "c"), edge("c", "a"))),
            {("a", "b"), ("b", "c"), ("c", "a")},
        ),
        (workflow(code("a"), connections=(edge("a", "a"),)), {("a", "a")}),
        (workflow(code("a", inputs={"x": "{{b.y}}"}), code("b")), {("a", "b"), ("b", "a (by a template)")}),
    ],
)
def test_cycles_are_named_in_full(definition: Definition, links: set[tuple[str, str]]) -> None:
    (found,) = problems_of(definition)
    assert found.startswith("connections: the steps form a cycle: ")
    names = found.removeprefix("connections: the steps form a cycle: ").split(" → ")
    assert {(source.split()[0], target) for source, target in pairwise(names)} == links


def test_each_of_several_cycles_is_named() -> None:
    steps = [code(name) for name in "abcd"]
    edges = (edge("a", "b"), edge("b", "a"), edge("c", "d"), edge("d", "c"))
    found = problems_of(workflow(*steps, connections=edges))
    assert {frozenset(problem.rsplit(": ", 1)[1].split(" → ")) for problem in found} == {
        frozenset("ab"),
        frozenset("cd"),
    }


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ("lfet", "can never be taken: step 's' has no route 'lfet' (did you mean 'left'?)"),
        ("other", "can never be taken: step 's' has no route 'other'; it has left, right"),
    ],
)
def test_a_route_its_switch_does_not_have_is_refused(route: str, problem: str) -> None:
    definition = workflow(switch("s", "left", "right"), code("a"), connections=(edge("s", "a", route=route),))
    assert problems_of(definition) == [f"connections[0].route: {problem}"]


def test_only_switches_have_routes_but_every_step_can_fail() -> None:
    definition = workflow(
        code("a"), code("b"), connections=(edge("a", "b", route="left"), edge("a", "b", route="error"))
    )
    assert problems_of(definition) == [
        "connections[0].route: can never be taken: step 'a' of type 'code' has no routes but 'error'"
    ]


DIAMOND = (switch("s", "left", "right"), code("a"), code("b"), code("c"))


@pytest.mark.parametrize(
    "connections",
    [
        (edge("a", "c", "x", "in"), edge("b", "c", "x", "in")),
        (edge("s", "c", "x", "in", "left"), edge("s", "c", "y", "in", "left")),
        (edge("s", "c", "x", "in"), edge("s", "c", "y", "in", "left")),
        (edge("s", "a", route="left"), edge("s", "b"), edge("a", "c", "x", "in"), edge("b", "c", "x", "in")),
        (
            edge("s", "a", route="left"),
            edge("s", "b", route="right"),
            edge("s", "b", "x", "y", route="left"),
            edge("a", "c", "in"),
            edge("b", "c", "x", "in"),
        ),
    ],
)
def test_an_input_has_one_source(connections: tuple[Connection, ...]) -> None:
    last = len(connections) - 1
    assert problems_of(workflow(*DIAMOND, connections=connections)) == [
        f"connections[{last}]: input 'in' of step 'c' is also set by connections[{last - 1}]; {EXCLUSIVE}"
    ]


@pytest.mark.parametrize(
    "connections",
    [
        (edge("s", "c", "x", "in", "left"), edge("s", "c", "y", "in", "right")),
        (edge("s", "c", "x", "in"), edge("s", "c", "message", "in", "error")),
        (edge("s", "c", "x", "in", "left"), edge("s", "c", "message", "in", "error")),
        (
            edge("s", "a", route="left"),
            edge("s", "b", route="right"),
            edge("a", "c", "x", "in"),
            edge("b", "c", "x", "in"),
        ),
        (edge("a", "b", route="error"), edge("a", "c", "x", "in"), edge("b", "c", "x", "in")),
        (edge("a", "c"), edge("b", "c"), edge("s", "c")),
        (edge("a", "c", "x", "in"), edge("a", "c", "x", "other")),
    ],
)
def test_exclusive_routes_may_share_an_input(connections: tuple[Connection, ...]) -> None:
    compile_plan(workflow(*DIAMOND, connections=connections), CATALOG)


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"api_key": "abc"}, "api_key"),
        ({"headers": {"Authorization": "Bearer abc"}}, "headers.Authorization"),
        ({"headers": {"X-Api-Key": "abc"}}, "headers.X-Api-Key"),
        ({"body": {"dbPassword": "abc"}}, "body.dbPassword"),
        ({"body": [{"token": "abc"}]}, "body[0].token"),
        ({"body": {"client_secret": ["abc"]}}, "body.client_secret[0]"),
    ],
)
def test_a_credential_in_config_is_refused_with_the_way_to_the_vault(config: dict[str, object], path: str) -> None:
    definition = workflow(Step(name="a", type="http_request", config=config))
    assert problems_of(definition) == [f"steps[0].config.{path}: holds a credential; {ADVICE}"]


def test_a_password_in_an_address_is_refused() -> None:
    definition = workflow(Step(name="a", type="http_request", config={"url": "https://me:pw@example.com/"}))
    assert problems_of(definition) == [f"steps[0].config.url: holds a password in its address; {ADVICE}"]


@pytest.mark.parametrize(
    "config",
    [
        {"body": {"password": "${parameters.password}"}},
        {"headers": {"Authorization": "Bearer ${context.token}"}},
        {"body": {"max_tokens": 5, "page_token": "abc", "primary_key": "id", "api_key": ""}},
        {"url": "https://example.com/a:b@c"},
    ],
)
def test_templates_and_innocent_names_are_no_credentials(config: dict[str, object]) -> None:
    compile_plan(workflow(Step(name="a", type="http_request", config=config)), CATALOG)


def test_source_text_is_not_searched_for_credentials_or_templates() -> None:
    compile_plan(workflow(code("a", config={"source": "password = f'${x {{y https://a:b@c'"})), CATALOG)


def test_templates_are_checked_in_config_and_inputs() -> None:
    definition = workflow(
        code("a", inputs={"x": "{{a.y}}", "y": ["${z"]}),
        Step(name="b", type="http_request", config={"url": "{{aa.x}} {{ b c }}"}),
    )
    found = problems_of(definition)
    assert found[0].startswith("steps[0].inputs.y[0]: the template '${z' does not end")
    assert found[1] == "steps[0].inputs: a template refers to the step itself, 'a', which has no output yet"
    assert found[2].startswith("steps[1].config.url: the template '{{ b c }}' holds something other than a dotted path")
    assert found[3] == "steps[1].config: a template: there is no step 'aa' (did you mean 'a'?)"
    assert len(found) == 4


def test_all_problems_are_reported_at_once() -> None:
    definition = Definition(
        name="-",
        steps=(code("a"), Step(name="a", type="nope", timeout=StepTimeout(attempt_s=0))),
        connections=(edge("x", "a"),),
        timeout_s=-1,
    )
    with pytest.raises(InvalidWorkflowError) as caught:
        compile_plan(definition, CATALOG)
    paths = [violation.path for violation in caught.value.violations]
    assert paths == [
        "name",
        "timeout",
        "steps[0].name",
        "steps[1].name",
        "steps[1].timeout.attempt",
        "steps[1].type",
        "connections[0].from_step",
    ]
    assert caught.value.message == "workflow '-' is not valid: 7 problems"
