from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana_server.core.clock import Micros
from torana_server.core.errors import InvalidRequestError, Reason
from torana_server.execution.filters import (
    EVERYTHING,
    FILTER_CHARS_MAX,
    STATES,
    TERMS_MAX,
    Filter,
    Operator,
    Term,
    matches,
    parse,
)
from torana_server.execution.ports import ExecutionState, Summary

NEW_YEAR = 1_767_225_600_000_000


def summary(**fields: object) -> Summary:
    known: dict[str, object] = {
        "execution": "e",
        "tenant": "t",
        "workflow": "etl",
        "revision": "r",
        "state": ExecutionState.FAILED,
        "create_time": Micros(NEW_YEAR),
    }
    return Summary(**{**known, **fields})  # type: ignore[arg-type]  # the test's own fields


def test_states_are_those_that_a_row_holds() -> None:
    assert set(ExecutionState) - {ExecutionState.BLOCKED} == STATES


def test_blank_text_is_everything() -> None:
    assert parse("") is EVERYTHING
    assert parse(" \n ") is EVERYTHING


def test_the_example_of_the_contract_parses() -> None:
    text = 'workflow = "etl" AND state = FAILED AND create_time > "2026-01-01T00:00:00Z" AND labels.team = "a"'
    assert parse(text) == Filter(
        (
            Term("workflow", Operator.EQ, "etl"),
            Term("state", Operator.EQ, "FAILED"),
            Term("create_time", Operator.GT, NEW_YEAR),
            Term("labels.team", Operator.EQ, "a"),
        )
    )


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("state!=EXECUTION_STATE_FAILED", Term("state", Operator.NE, "FAILED")),
        ("session_id='it\\'s'", Term("session_id", Operator.EQ, "it's")),
        ('labels."a b" = ""', Term("labels.a b", Operator.EQ, "")),
        ("labels.app.io/name = x-1", Term("labels.app.io/name", Operator.EQ, "x-1")),
        ("end_time < 2026-01-01T01:00:00+01:00", Term("end_time", Operator.LT, NEW_YEAR)),
        ('workflow = "a AND b"', Term("workflow", Operator.EQ, "a AND b")),
    ],
)
def test_forms_of_a_term(text: str, term: Term) -> None:
    assert parse(text) == Filter((term,))


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("colour = 1", 0, "unknown field 'colour'"),
        ("labels = 1", 0, "unknown field 'labels'"),
        ("labels. = 1", 0, "key of a label"),
        ("workflow", 8, "takes = or !="),
        ("workflow < a", 9, "takes = or !="),
        ("create_time >= '2026-01-01T00:00:00Z'", 12, "found '>='"),
        ("workflow =", 10, "expected a value"),
        ("workflow = a OR workflow = b", 13, "expected AND"),
        ("workflow = a AND", 16, "expected a field"),
        ("NOT workflow = a", 0, "unknown field 'NOT'"),
        ("(workflow = a)", 0, "unexpected '('"),
        ('workflow = "a', 11, "unexpected '\"'"),
        ("state = DONE", 8, "unknown state 'DONE'"),
        ("state = BLOCKED", 8, "unknown state 'BLOCKED'"),
        ("create_time > '2026-01-01T00:00:00'", 14, "timezone"),
        ("create_time > yesterday", 14, "RFC 3339"),
        (" AND ".join(["workflow = a"] * (TERMS_MAX + 1)), 17 * TERMS_MAX, "at most 64 terms"),
        (" " * (FILTER_CHARS_MAX + 1), FILTER_CHARS_MAX, "at most 4,000 characters"),
    ],
)
def test_a_refusal_says_where_and_what(text: str, position: int, says: str) -> None:
    with pytest.raises(InvalidRequestError, match="invalid filter") as refused:
        parse(text)
    assert refused.value.reason is Reason.INVALID_FILTER
    assert refused.value.metadata == {"position": str(position)}
    assert says in refused.value.message


def test_a_caller_may_narrow_the_fields() -> None:
    fields = frozenset({"workflow", "labels"})
    assert parse("labels.a = b AND workflow = c", fields=fields).terms[0].field == "labels.a"
    with pytest.raises(InvalidRequestError, match=r"state cannot be filtered on here; use labels.KEY, workflow"):
        parse("state = FAILED", fields=fields)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused_with_a_position_in_it(text: str) -> None:
    position = 0
    try:
        parse(text)
    except InvalidRequestError as refused:
        position = int(refused.metadata["position"])
    assert 0 <= position <= len(text)


@given(st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_quoted_values_and_label_keys_come_back_as_written(value: str, key: str) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    assert parse(f"labels.{quoted(key)} = {quoted(value)}") == Filter((Term(f"labels.{key}", Operator.EQ, value),))
    assert parse(f"workflow != {json.dumps('plain')}") == Filter((Term("workflow", Operator.NE, "plain"),))


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("workflow = etl AND state = FAILED", True),
        ("workflow = etl AND state = RUNNING", False),
        ("state = failed", True),
        ("state != failed", False),
        ("create_time > 2025-12-31T23:59:59.999999Z", True),
        ("create_time > 2026-01-01T00:00:00Z", False),
        ("create_time = 2026-01-01T00:00:00Z", True),
        ("labels.team = a", True),
        ("labels.team != a", False),
    ],
)
def test_all_terms_must_hold(text: str, held: bool) -> None:
    assert matches(parse(text), summary(labels={"team": "a"})) is held


def test_what_is_not_set_is_equal_to_nothing() -> None:
    for text in ("end_time < 2027-01-01T00:00:00Z", "end_time > 2020-01-01T00:00:00Z", "labels.team = ''"):
        assert not matches(parse(text), summary())
    assert matches(parse("labels.team != a AND end_time != 2026-01-01T00:00:00Z"), summary())
