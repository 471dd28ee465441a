"""Saga: what fails late is answered by undoing what went before, in reverse; each test looks at every store."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from scenarios.api import Api, Asked
from scenarios.running import Outcome, Reference, Run

TRIP = {"trip": "T-100", "city": "Lyon", "card": "4000-1", "cents": 12_900}


class Bank:
    """Keeps a balance. Charges and refunds count once for each idempotency key."""

    def __init__(self) -> None:
        self.balance = 0
        self.declines = False
        self.outages = 0
        self._seen: dict[str, str] = {}
        self._charged: dict[str, int] = {}

    async def charge(self, asked: Asked) -> web.Response:
        if self.declines:
            return web.json_response({"reason": "the card has expired"}, status=402)
        return self._book(asked, asked.body["cents"])

    async def refund(self, asked: Asked) -> web.Response:
        return self._book(asked, -self._charged[asked.body["charge"]])

    def _book(self, asked: Asked, cents: int) -> web.Response:
        """What was booked stays booked, even if the answer is lost."""
        key = asked.headers["Idempotency-Key"]
        if key not in self._seen:
            self._seen[key] = f"B{len(self._seen) + 1}"
            self._charged[self._seen[key]] = cents
            self.balance += cents
        if self.outages > 0:
            self.outages -= 1
            return web.json_response({}, status=504)
        return web.json_response({"id": self._seen[key]})


@pytest.fixture
def bank(api: Api) -> Bank:
    bank = Bank()
    api.on("/charges", bank.charge)
    api.on("/refunds", bank.refund)
    return bank


@pytest.fixture
async def resources(sql: Any, api: Api, bank: Bank, database: Reference) -> dict[str, Reference]:
    await sql.execute(
        """
        CREATE TABLE seats (number int PRIMARY KEY, trip text);
        CREATE TABLE rooms (city text PRIMARY KEY, free int);
        CREATE TABLE tickets (trip text PRIMARY KEY, seat int, charge text);
        INSERT INTO seats VALUES (1, 'T-99'), (2, NULL);
        INSERT INTO rooms VALUES ('Lyon', 4);
        """
    )
    return {"railway": database, "hotel": database, "bank": api.reference()}


async def stores(sql: Any) -> dict[str, Any]:
    return {
        "seats": [row["number"] for row in await sql.fetch("SELECT number FROM seats WHERE trip = 'T-100'")],
        "rooms": await sql.fetchval("SELECT free FROM rooms WHERE city = 'Lyon'"),
        "tickets": [tuple(row) for row in await sql.fetch("SELECT * FROM tickets WHERE trip = 'T-100'")],
    }


def done(outcome: Outcome) -> list[str]:
    return [event.step for event in outcome.of("step_completed")]


NOTHING = {"seats": [], "rooms": 4, "tickets": []}


async def test_a_trip_is_booked_charged_and_written_down(
    run: Run, resources: dict[str, Reference], bank: Bank, sql: Any
) -> None:
    outcome = await run("book_trip", TRIP, resources=resources)
    assert outcome.result["ticket"] == {"booked": True, "seat": 2, "charge": "B1"}
    assert done(outcome) == ["seat", "room", "charge", "ticket"]
    skipped = {event.step for event in outcome.of("step_skipped")}
    assert skipped == {"refund", "return_room", "return_seat", "regret"}
    assert await stores(sql) == {"seats": [2], "rooms": 3, "tickets": [("T-100", 2, "B1")]}
    assert bank.balance == 12_900


async def test_a_declined_payment_returns_the_room_and_then_the_seat(
    run: Run, resources: dict[str, Reference], bank: Bank, api: Api, sql: Any
) -> None:
    bank.declines = True
    outcome = await run("book_trip", TRIP, resources=resources)
    assert outcome.status == "completed", "a trip that was refused in good order is no failure"
    assert outcome.result["regret"] == {"booked": False, "because": "the card has expired"}
    assert done(outcome) == ["seat", "room", "return_room", "return_seat", "regret"]
    (failed,) = outcome.of("step_failed")
    assert (failed.step, failed.attempt, failed.data["handled"]) == ("charge", 1, True)
    assert await stores(sql) == NOTHING
    assert len(api.asked) == 1, "a refusal is not tried again"


async def test_without_a_room_only_the_seat_is_returned_and_the_bank_is_not_asked(
    run: Run, resources: dict[str, Reference], api: Api, sql: Any
) -> None:
    await sql.execute("UPDATE rooms SET free = 0")
    outcome = await run("book_trip", TRIP, resources=resources)
    assert outcome.result["regret"] == {"booked": False, "because": "no room is free in Lyon"}
    assert done(outcome) == ["seat", "return_seat", "regret"]
    assert await stores(sql) == {**NOTHING, "rooms": 0}
    assert api.asked == []


async def test_a_ticket_that_cannot_be_written_undoes_everything_in_reverse(
    run: Run, resources: dict[str, Reference], bank: Bank, api: Api, sql: Any
) -> None:
    await sql.execute("ALTER TABLE tickets ADD CHECK (trip <> 'T-100')")
    outcome = await run("book_trip", TRIP, resources=resources)
    assert outcome.result["regret"] == {"booked": False, "because": "the ticket could not be written"}
    assert done(outcome) == ["seat", "room", "charge", "refund", "return_room", "return_seat", "regret"]
    assert [asked.body for asked in api.asked_for("/refunds")] == [{"charge": "B1"}]
    assert (await stores(sql), bank.balance) == (NOTHING, 0)


async def test_a_charge_whose_answers_are_lost_is_charged_once(
    run: Run, resources: dict[str, Reference], bank: Bank, sql: Any
) -> None:
    bank.outages = 2
    outcome = await run("book_trip", TRIP, resources=resources)
    assert outcome.result["ticket"]["charge"] == "B1"
    assert [event.attempt for event in outcome.of("step_retrying", "charge")] == [1, 2]
    assert bank.balance == 12_900


async def test_a_compensation_that_fails_for_good_fails_the_execution_and_says_what_is_left(
    run: Run, resources: dict[str, Reference], api: Api, sql: Any
) -> None:
    await sql.execute("ALTER TABLE tickets ADD CHECK (trip <> 'T-100')")
    api.says("/refunds", {}, status=500)
    outcome = await run("book_trip", TRIP, resources=resources)
    assert (outcome.status, outcome.error.step, outcome.error.attempt) == ("failed", "refund", 3)
    assert done(outcome) == ["seat", "room", "charge"]
    assert await stores(sql) == {"seats": [2], "rooms": 3, "tickets": []}


async def test_a_full_train_has_nothing_to_undo(run: Run, resources: dict[str, Reference], api: Api, sql: Any) -> None:
    await sql.execute("DELETE FROM seats WHERE trip IS NULL")
    outcome = await run("book_trip", TRIP, resources=resources)
    assert (outcome.status, outcome.error.message) == ("failed", "the train is full")
    assert (await stores(sql), api.asked) == (NOTHING, [])
