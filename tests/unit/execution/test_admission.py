from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torana_server.core.errors import ExhaustedError, Reason
from torana_server.execution.admission import Admission, AdmissionLimits, Place

ETL = Place("acme", "etl")
REPORT = Place("acme", "report")
OTHERS = Place("globex", "etl")


class Doors:
    """An admission, and who was let in."""

    def __init__(self, **limits: int) -> None:
        self.admission = Admission(AdmissionLimits(**limits))
        self.inside: list[str] = []

    def come(self, execution: str, place: Place) -> None:
        """As an execution that is created does."""
        if self.admission.enter(place):
            self.inside.append(execution)
        else:
            self.wait(execution, place, has_seat=True)

    def wait(self, execution: str, place: Place, *, has_seat: bool = False) -> None:
        self.admission.wait(execution, place, lambda: self.inside.append(execution), has_seat=has_seat)


def test_places_go_to_those_who_come_until_the_limit_and_the_others_wait() -> None:
    doors = Doors(running=2)
    for name in "abc":
        doors.come(name, ETL)
    assert doors.inside == ["a", "b"]
    assert (doors.admission.running, doors.admission.queued) == (2, 1)


def test_a_place_that_becomes_free_goes_to_the_first_that_waits() -> None:
    doors = Doors(running=1)
    for name in "abc":
        doors.come(name, ETL)
    doors.admission.leave(ETL)
    assert doors.inside == ["a", "b"]
    doors.admission.leave(ETL)
    assert doors.inside == ["a", "b", "c"]


def test_a_full_workflow_or_tenant_does_not_hold_up_others() -> None:
    doors = Doors(running=10, running_per_workflow=1, running_per_tenant=2)
    doors.come("a", ETL)
    doors.come("waits-for-workflow", ETL)
    doors.come("b", REPORT)
    doors.come("waits-for-tenant", Place("acme", "third"))
    doors.come("c", OTHERS)
    assert doors.inside == ["a", "b", "c"]
    doors.admission.leave(REPORT)
    assert doors.inside == ["a", "b", "c", "waits-for-tenant"]
    doors.admission.leave(ETL)
    assert doors.inside[-1] == "waits-for-workflow"


def test_who_waited_longest_among_different_workflows_comes_first() -> None:
    doors = Doors(running=1)
    doors.come("a", ETL)
    doors.come("b", REPORT)
    doors.come("c", ETL)
    doors.admission.leave(ETL)
    assert doors.inside == ["a", "b"]


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    doors = Doors(running=1, queued=1)
    doors.come("a", ETL)
    doors.come("b", ETL)
    with pytest.raises(ExhaustedError) as refused:
        doors.come("c", ETL)
    assert refused.value.reason == Reason.QUEUE_FULL
    assert refused.value.retry_after_s == 1.0
    with pytest.raises(ExhaustedError):
        doors.admission.check(ETL)


def test_a_full_queue_does_not_refuse_what_has_a_place() -> None:
    doors = Doors(running=10, running_per_workflow=1, queued=1)
    doors.come("a", ETL)
    doors.come("b", ETL)
    doors.admission.check(REPORT)
    doors.come("c", REPORT)
    assert doors.inside == ["a", "c"]


def test_without_a_queue_places_are_still_given() -> None:
    doors = Doors(running=1, queued=0)
    doors.come("a", ETL)
    assert doors.inside == ["a"]
    with pytest.raises(ExhaustedError):
        doors.come("b", ETL)


def test_seats_of_executions_that_are_being_created_count_for_the_queue() -> None:
    admission = Admission(AdmissionLimits(running=1, queued=1))
    assert admission.enter(ETL)
    assert not admission.enter(ETL)
    with pytest.raises(ExhaustedError):
        admission.enter(ETL)
    admission.withdraw(ETL, admitted=False)
    assert not admission.enter(ETL)


def test_who_withdraws_a_place_lets_the_next_one_in() -> None:
    doors = Doors(running=1)
    assert doors.admission.enter(ETL)
    doors.come("b", ETL)
    doors.admission.withdraw(ETL, admitted=True)
    assert doors.inside == ["b"]


def test_what_is_claimed_waits_however_long_the_queue_is() -> None:
    doors = Doors(running=1, queued=0)
    doors.come("a", ETL)
    doors.wait("recovered", ETL)
    assert doors.admission.queued == 1
    doors.admission.leave(ETL)
    assert doors.inside == ["a", "recovered"]


def test_who_gives_up_is_not_let_in_later() -> None:
    doors = Doors(running=1)
    for name in "abc":
        doors.come(name, ETL)
    doors.admission.give_up("b")
    doors.admission.give_up("b")
    doors.admission.leave(ETL)
    assert doors.inside == ["a", "c"]


PLACES = st.builds(Place, st.sampled_from(["acme", "globex"]), st.sampled_from(["etl", "report", "third"]))


@settings(max_examples=200)
@given(st.lists(st.one_of(PLACES, st.integers(0, 20)), max_size=60))
def test_no_limit_is_ever_passed_and_nobody_waits_for_a_place_that_is_free(happenings: list[Place | int]) -> None:
    limits = AdmissionLimits(running=4, running_per_tenant=3, running_per_workflow=2, queued=1_000)
    admission = Admission(limits)
    inside: list[Place] = []
    waiting: dict[str, Place] = {}

    def let_in(name: str) -> None:
        inside.append(waiting.pop(name))

    for number, happening in enumerate(happenings):
        if isinstance(happening, Place):
            name = str(number)
            if admission.enter(happening):
                inside.append(happening)
            else:
                waiting[name] = happening
                admission.wait(name, happening, partial(let_in, name), has_seat=True)
        elif happening < len(inside):
            admission.leave(inside.pop(happening))
        assert admission.running == len(inside)
        assert admission.queued == len(waiting)
        assert not _exceeds(inside, limits)
        assert all(_exceeds([*inside, place], limits) for place in waiting.values())


def _exceeds(inside: list[Place], limits: AdmissionLimits) -> bool:
    tenants = [place.tenant for place in inside]
    return (
        len(inside) > limits.running
        or any(tenants.count(tenant) > limits.running_per_tenant for tenant in tenants)
        or any(inside.count(place) > limits.running_per_workflow for place in inside)
    )
