from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from torana.v1 import execution_pb2
from torana_server.core.errors import (
    InvalidRequestError,
    Reason,
    StateError,
    ToranaError,
    UnavailableError,
    Violation,
)
from torana_server.rpc import status
from torana_server.rpc.status import CODES, code_of, cut, to_status, trailers


def detail(found, kind):
    for packed in found.details:
        if packed.Is(kind.DESCRIPTOR):
            return kind.FromString(packed.value)
    return None


def test_every_reason_has_a_code_that_is_an_error() -> None:
    assert set(CODES) == set(Reason)
    assert grpc.StatusCode.OK not in CODES.values()


@pytest.mark.parametrize("reason", Reason)
def test_every_error_names_its_domain_reason_and_call(reason) -> None:
    found = to_status(ToranaError("what to do", reason=reason), "call-1")
    assert found.code == CODES[reason].value[0]
    info = detail(found, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason) == ("torana", reason.value)
    assert detail(found, error_details_pb2.RequestInfo).request_id == "call-1"


@pytest.mark.parametrize("error", [ValueError("password=hunter2"), KeyError("hunter2"), ToranaError("hunter2")])
def test_a_defect_shows_nothing_of_itself(error) -> None:
    found = to_status(error, "call-1")
    assert found.code == grpc.StatusCode.INTERNAL.value[0]
    assert b"hunter2" not in found.SerializeToString()
    assert code_of(error) is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    "reason", [Reason.QUEUE_FULL, Reason.TOO_MANY_STREAMS, Reason.JOURNAL_UNAVAILABLE, Reason.SERVER_DRAINING]
)
def test_reasons_that_pass_by_themselves_always_say_when_to_come_back(reason) -> None:
    retry = detail(to_status(ToranaError("later", reason=reason), ""), error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToTimedelta().total_seconds() == 1


def test_an_error_may_know_better_when_to_come_back() -> None:
    found = to_status(UnavailableError("later", retry_after_s=2.5), "")
    retry = detail(found, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToTimedelta().total_seconds() == 2.5


def test_a_condition_that_failed_is_spelled_out() -> None:
    error = StateError("bind it", reason=Reason.RESOURCE_NOT_BOUND, metadata={"resources": "db"})
    (violation,) = detail(to_status(error, ""), error_details_pb2.PreconditionFailure).violations
    assert (violation.type, violation.subject, violation.description) == ("RESOURCE_NOT_BOUND", "db", "bind it")


def test_messages_that_go_with_an_error_are_in_its_details_unless_they_are_too_large() -> None:
    error = ToranaError("gone", reason=Reason.EVENTS_EXPIRED)
    small, large = execution_pb2.Execution(id="x"), execution_pb2.Execution(id="x" * 2_000)
    assert detail(to_status(error, "", [small]), execution_pb2.Execution) == small
    assert detail(to_status(error, "", [large]), execution_pb2.Execution) is None


@given(
    message=st.text(max_size=3_000),
    metadata=st.dictionaries(st.text(max_size=200), st.text(max_size=1_000), max_size=20),
    violations=st.lists(st.builds(Violation, st.text(max_size=400), st.text(max_size=1_000)), max_size=40),
    reason=st.sampled_from(Reason),
    attached=st.integers(0, 1_490),
)
def test_trailers_stay_below_8_kib_whatever_the_error_says(message, metadata, violations, reason, attached) -> None:
    error = ToranaError(message, reason=reason, metadata=metadata, violations=violations)
    found = to_status(error, "r" * 128, [execution_pb2.Execution(id="x" * attached)])
    percent_encoded = sum(3 if not 0x20 <= byte <= 0x7E or byte == 0x25 else 1 for byte in found.message.encode())
    base64 = -(-found.ByteSize() // 3) * 4
    assert percent_encoded + base64 + 500 <= 8 * 1024
    assert dict(trailers(found, "r"))["x-request-id"] == "r"


def test_violations_that_do_not_fit_are_counted() -> None:
    violations = [Violation(f"steps[{i}]", "x" * 300) for i in range(100)]
    found = to_status(InvalidRequestError("no", violations=violations), "")
    shown = detail(found, error_details_pb2.BadRequest).field_violations
    assert [one.field for one in shown[:-1]] == [f"steps[{i}]" for i in range(len(shown) - 1)]
    assert shown[-1].description == f"and {100 - len(shown) + 1} more; correct these first"


@given(st.text(), st.integers(10, 50))
def test_cutting_keeps_whole_characters_and_the_bound(text, bytes_max) -> None:
    kept = cut(text, bytes_max)
    assert len(kept.encode()) <= bytes_max
    assert kept == text.encode("utf-8", "replace").decode() or kept.endswith("…")


def test_the_keys_of_the_trailers_are_those_that_clients_look_for() -> None:
    assert (status.DETAILS_KEY, status.REQUEST_ID_KEY) == ("grpc-status-details-bin", "x-request-id")
