from __future__ import annotations

from torana.v1.error_reason_pb2 import ErrorReason
from torana_server.core.errors import Reason

PREFIX = "ERROR_REASON_"


def test_the_contract_and_the_core_know_the_same_error_reasons() -> None:
    in_contract = {name.removeprefix(PREFIX) for name in ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert in_contract == {reason.name for reason in Reason}


def test_a_reason_reads_the_same_in_code_and_on_the_wire() -> None:
    assert [reason for reason in Reason if reason.name != reason.value] == []
