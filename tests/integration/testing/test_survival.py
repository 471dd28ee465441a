from __future__ import annotations

from typing import Any

import pytest

from integration.testing.workflows import payment, source
from torana_server import StepContext, WorkflowBuilder, WorkflowRequest
from torana_server.testing import (
    FakeDatabase,
    FakeHttpApi,
    HttpRequest,
    MemoryGateway,
    Recording,
    assert_survives_restart,
)


def world(*, idempotent: bool = True) -> dict[str, Any]:
    """A payment provider that knows keys, or does not, and a database."""
    charged: dict[str, int] = {}

    def charge(request: HttpRequest) -> object:
        key = request.json["key"] if idempotent else str(len(charged))
        charged[key] = request.json["amount"]
        return {"ok": True}

    database = FakeDatabase().answers("INSERT INTO notes", None)
    return {"payments": FakeHttpApi().answers("POST", "/charges", charge), "db": database, "charged": charged}


def charged_once(run: Recording, world: dict[str, Any]) -> None:
    assert len(world["charged"]) == 1, f"charged {len(world['charged'])} times"


async def test_a_workflow_that_hands_on_its_idempotency_key_survives_every_crash() -> None:
    survival = await assert_survives_restart(payment(), {"amount": 5}, resources=world, check=charged_once)
    survival.undisturbed.assert_attempts(charge=1, note=1)
    assert list(survival.recovered) == [
        "lost after commit 1 (accepted, started, charge started)",
        "lost before commit 2 (charge completed, note started)",
        "lost after commit 2 (charge completed, note started)",
        "lost before commit 3 (note completed, completed)",
        "lost after commit 3 (note completed, completed)",
    ]
    repeated = survival.recovered["lost before commit 2 (charge completed, note started)"]
    repeated.assert_attempts(charge=2, note=1).assert_happened("recovered", "charge started", "completed")


async def test_a_workflow_that_does_not_is_told_where_and_what_happened() -> None:
    with pytest.raises(AssertionError) as caught:
        await assert_survives_restart(
            payment(), {"amount": 5}, resources=lambda: world(idempotent=False), check=charged_once
        )
    message = str(caught.value)
    assert message.startswith("the workflow does not survive the loss of its server at 1 of 5 points\n")
    assert "lost before commit 2 (charge completed, note started): charged 2 times" in message
    assert "recovered" in message


async def test_a_result_that_changes_with_the_attempt_is_told_unless_that_is_meant() -> None:
    counts = source("return ctx.attempt")
    with pytest.raises(AssertionError, match=r"step 'only' returned 2; undisturbed 1 .same_result=False accepts that"):
        await assert_survives_restart(counts)
    survival = await assert_survives_restart(counts, same_result=False)
    assert {run.status for run in survival.recovered.values()} == {"completed"}


async def test_a_point_with_two_problems_counts_once() -> None:
    def started_once(run: Recording, world: object) -> None:
        run.assert_attempts(only=1)

    with pytest.raises(AssertionError) as caught:
        await assert_survives_restart(source("return ctx.attempt"), check=started_once)
    assert "of its server at 2 of 3 points" in str(caught.value)
    assert "step 'only' returned 2; undisturbed 1" in str(caught.value)
    assert "step 'only' should have started once, not 2 times" in str(caught.value)


async def test_an_end_that_changes_is_told() -> None:
    only_once = source("if ctx.attempt > 1:\n    raise ValueError('again')")
    with pytest.raises(AssertionError, match="the execution failed; undisturbed it completed"):
        await assert_survives_restart(only_once)


async def test_a_check_that_fails_undisturbed_fails_as_it_is() -> None:
    def check(run: Recording, world: object) -> None:
        raise AssertionError("never right")

    with pytest.raises(AssertionError, match=r"^never right$"):
        await assert_survives_restart(source("return 1"), check=check)


async def test_every_server_is_set_up_and_the_request_is_the_same() -> None:
    servers: list[MemoryGateway] = []

    async def setup(gateway: MemoryGateway) -> None:
        servers.append(gateway)
        gateway.register_function("shout", lambda text: text.upper())

    request = WorkflowRequest(parameters={"word": "a"}, context={"user": "ann"})
    workflow = source("return [shout(word), context.get('user')]")
    survival = await assert_survives_restart(workflow, request, setup=setup)
    assert survival.undisturbed.result == {"only": ["A", "ann"]}
    # Undisturbed; two for each point; one where nothing was accepted; one that ended before the point.
    assert len(servers) == 1 + 2 * len(survival.recovered) + 1 + 1


async def test_checkpoints_are_found_again_after_a_crash() -> None:
    async def count(ctx: StepContext) -> int:
        done = ctx.restored or 0
        assert isinstance(done, int)
        for number in range(done + 1, 4):
            await ctx.checkpoint(number)
            await ctx.emit("counted", number)
        return 3

    def once_or_more(run: Recording, world: object) -> None:
        assert set(run.emitted("counted")) <= {1, 2, 3}

    workflow = WorkflowBuilder("counting").add_step("count", count).build()
    survival = await assert_survives_restart(workflow, check=once_or_more)
    assert any("count checkpointed" in point for point in survival.recovered)
