from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from torana_server.core.errors import InvalidWorkflowError
from torana_server.workflow import (
    Connection,
    Definition,
    Durability,
    RetryPolicy,
    Step,
    StepTimeout,
    WorkflowBuilder,
    compile_plan,
)
from unit.workflow.catalog import Catalog


async def load_users(users: list[Any], ttl: int) -> int:
    return len(users) * ttl


def other(x: int) -> int:
    return x


SOURCE = """
    db = await get_resource("source_db")
    if db:
        return {"users": []}
"""
POLICY = RetryPolicy(max_attempts=2)


def test_the_builder_makes_the_definition_it_reads_like() -> None:
    workflow = (
        WorkflowBuilder(
            "user_etl", "Loads", labels={"team": "data"}, timeout="1h", retry=POLICY, durability="every_n_steps"
        )
        .add_async_code("extract", SOURCE, required_resources=["source_db"], timeout=timedelta(minutes=1))
        .add_step("load", load_users, required_resources=["cache"], inputs={"ttl": 3600}, retry=POLICY)
        .add_node("http_request", "notify", {"url": "…"}, credentials_ref="hooks", timeout=StepTimeout(total_s=9.0))
        .add_connection("extract", "users", "load", "users")
        .add_connection("load", None, "notify", None, route="error")
        .build()
    )
    registered = f"{__name__}.load_users"
    extract = 'db = await get_resource("source_db")\nif db:\n    return {"users": []}'
    assert workflow.functions == {f"{registered}@1": load_users}
    assert workflow.definition == Definition(
        name="user_etl",
        description="Loads",
        labels={"team": "data"},
        timeout_s=3600.0,
        retry=POLICY,
        durability=Durability.EVERY_N_STEPS,
        steps=(
            Step(
                name="extract",
                type="code",
                config={"source": extract},
                required_resources=("source_db",),
                timeout=StepTimeout(attempt_s=60.0),
            ),
            Step(
                name="load",
                type="function",
                config={"function": registered, "version": "1"},
                required_resources=("cache",),
                inputs={"ttl": 3600},
                retry=POLICY,
            ),
            Step(
                name="notify",
                type="http_request",
                config={"url": "…"},
                credentials_ref="hooks",
                timeout=StepTimeout(total_s=9.0),
            ),
        ),
        connections=(
            Connection(from_step="extract", from_output="users", to_step="load", to_input="users"),
            Connection(from_step="load", to_step="notify", route="error"),
        ),
    )
    compile_plan(workflow.definition, Catalog())


def test_a_connection_of_two_names_joins_two_steps() -> None:
    builder = WorkflowBuilder("w").add_async_code("a", "").add_async_code("b", "").add_connection("a", "b")
    assert builder.build().definition.connections == (Connection(from_step="a", to_step="b"),)


def test_functions_are_registered_by_name_and_version() -> None:
    def inner() -> None: ...

    workflow = (
        WorkflowBuilder("w")
        .add_step("a", load_users, function_name="users", version="2024-01")
        .add_step("b", load_users, function_name="users", version="2024-01")
        .add_step("c", inner)
        .build()
    )
    local = f"{__name__}.test_functions_are_registered_by_name_and_version.inner"[-128:]
    assert workflow.functions == {"users@2024-01": load_users, f"{local}@1": inner}


def problems_of(builder: WorkflowBuilder) -> list[str]:
    with pytest.raises(InvalidWorkflowError) as caught:
        builder.build()
    return [str(violation) for violation in caught.value.violations]


def test_build_lists_every_problem_of_the_structure() -> None:
    builder = (
        WorkflowBuilder("w!", timeout=-1)
        .add_async_code("a", "")
        .add_async_code("a", "", inputs={"x": "${"})
        .add_connection("a", "x", "c", "y")
    )
    found = problems_of(builder)
    assert [problem.split(":")[0] for problem in found] == [
        "name",
        "timeout",
        "steps[0].name",
        "steps[1].name",
        "steps[1].inputs.x",
        "connections[0].to_step",
    ]


def test_arguments_of_the_wrong_kind_are_named() -> None:
    builder = (
        WorkflowBuilder("w", timeout="soon", durability="never")
        .add_step("a", 5)  # type: ignore[arg-type]  # the fault that is tested
        .add_step("b", lambda: None)
        .add_step("c", load_users, function_name="f")
        .add_step("d", other, function_name="f")
        .add_async_code("e", other, required_resources="db")  # type: ignore[arg-type]  # as above
        .add_node("http_request", "f", {"at": datetime(2024, 1, 1, tzinfo=UTC)}, timeout="x")
        .add_node("http_request", 7, retry=RetryPolicy(max_attempts="2"))  # type: ignore[arg-type]  # as above
    )
    assert problems_of(builder) == [
        'timeout: must be a number of seconds or text such as "30s", "500ms", "5m" or "1h30m"',
        "durability: 'never' is not a durability; they are every_step, every_n_steps, stage_boundaries",
        "steps[0].config.function: 5 is not a function",
        "steps[1].config.function: the function has no name of its own; give function_name",
        "steps[3].config.function: 'f' version '1' is already another function; give function_name or version",
        "steps[4].config.source: must be the text of the code; add_step takes functions",
        "steps[4].required_resources: must be a list of names: ['db']",
        'steps[5].timeout: must be a number of seconds or text such as "30s", "500ms", "5m" or "1h30m"',
        "steps[5].config.at: is a datetime, which JSON lacks; write it as text or a number",
    ]
    wrong = WorkflowBuilder("w", labels={"a": 1}).add_node("code", 7)  # type: ignore[dict-item, arg-type]  # as above
    retried = WorkflowBuilder("w", retry=3)  # type: ignore[arg-type]  # as above
    retried.add_step("a", other, retry={"max_attempts": 3})  # type: ignore[arg-type]  # as above
    assert problems_of(retried) == [
        "retry: must be a RetryPolicy(max_attempts=…), not int",
        "steps[0].retry: must be a RetryPolicy(max_attempts=…), not dict",
    ]
    assert problems_of(wrong) == ["labels.a: must be text, not a number", "steps[0].name: must be text, not a number"]


def test_an_empty_builder_says_what_is_missing() -> None:
    assert problems_of(WorkflowBuilder("w")) == ["steps: a workflow needs at least one step"]
