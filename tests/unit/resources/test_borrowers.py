"""Who holds what of a pool, and what those are told for whom nothing is left."""

from __future__ import annotations

from torana_server.core.errors import Reason
from torana_server.resources import Borrower, Holdings
from unit.resources.world import ALICE, BOB, FakeClock


def borrower(tenant: str, execution: str, clock: FakeClock) -> Borrower:
    return Borrower("db", tenant, execution, "work", 1, clock)


def test_an_exhausted_pool_names_those_who_hold_it_the_longest_first() -> None:
    clock, holdings = FakeClock(), Holdings()
    for execution in ("e1", "e2"):
        holdings.add(execution, borrower(ALICE.tenant, execution, clock))
        clock.advance(1)
    error = holdings.exhausted(borrower(ALICE.tenant, "e3", clock), size=2, waited_s=0.5)
    assert error.reason is Reason.RESOURCE_POOL_EXHAUSTED
    assert "all 2 connections of its pool are in use and none came back within 0.5 s" in error.message
    assert (
        "Held by execution e1 step 'work' (attempt 1) since 2023-11-14T22:13:20.000Z; "
        "execution e2 step 'work' (attempt 1) since 2023-11-14T22:13:21.000Z. Hold" in error.message
    )


def test_ten_holders_are_named_and_the_others_counted() -> None:
    clock, holdings = FakeClock(), Holdings()
    for number in range(12):
        holdings.add(number, borrower(ALICE.tenant, f"e{number}", clock))
    error = holdings.exhausted(borrower(ALICE.tenant, "e", clock), size=12, waited_s=1)
    assert error.message.count("execution e") == error.metadata["holders"].count("execution e") == 10
    assert "; and 2 more." in error.message


def test_of_other_tenants_only_the_number_of_connections_is_told() -> None:
    clock, holdings = FakeClock(), Holdings()
    holdings.add("a", borrower(ALICE.tenant, "mine", clock))
    holdings.add("b", borrower(BOB.tenant, "theirs", clock))
    error = holdings.exhausted(borrower(ALICE.tenant, "e", clock), size=2, waited_s=1)
    assert "execution mine" in error.message
    assert "; 1 by other tenants." in error.message
    assert "theirs" not in f"{error.message} {dict(error.metadata)}"


def test_a_pool_whose_connections_are_still_being_opened_says_so() -> None:
    error = Holdings().exhausted(borrower(ALICE.tenant, "e", FakeClock()), size=1, waited_s=1)
    assert "Held by connections that are being opened." in error.message
