from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.v1 import execution_pb2
from torana_server.core.errors import InvalidRequestError, Reason
from torana_server.rpc.paging import Query, names_after, page_of

QUERY = Query("local", "ListExecutions", ('workflow = "etl"',))
OTHERS = [
    Query("other", "ListExecutions", ('workflow = "etl"',)),
    Query("local", "ListSecrets", ('workflow = "etl"',)),
    Query("local", "ListExecutions", ("",)),
    Query("local", "ListExecutions", ('workflow = "etl"', "")),
    Query("localListExecutions", "", ('workflow = "etl"',)),
]


@given(st.text())
def test_a_token_gives_its_position_back(position) -> None:
    token = QUERY.token(position)
    assert QUERY.position(token) == position
    assert token.isascii()


@pytest.mark.parametrize("other", OTHERS)
def test_a_token_is_of_no_use_for_another_query(other) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        other.position(QUERY.token("7"))
    assert refused.value.reason is Reason.INVALID_PAGE_TOKEN


@given(st.text())
def test_a_token_nobody_gave_is_refused_and_its_field_named(token) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        QUERY.position(token, "cursor")
    assert refused.value.reason is Reason.INVALID_PAGE_TOKEN
    assert [violation.path for violation in refused.value.violations] == ["cursor"]


@given(st.text(min_size=1), st.data())
def test_a_token_that_was_cut_or_changed_is_refused(position, data) -> None:
    token = QUERY.token(position)
    index = data.draw(st.integers(0, len(token) - 1))
    for changed in (token[:index], token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]):
        try:
            found = QUERY.position(changed)
        except InvalidRequestError:
            continue
        assert found == position, "only the spare bits of base64 may differ"


def page(rows: list[str], **bounds: int):
    return page_of(
        rows,
        query=QUERY,
        item=lambda row: execution_pb2.Execution(id=row),
        position=lambda row: row,
        **{"size": 10, "bytes_max": 1_000, **bounds},
    )


@given(st.lists(st.text("abc", min_size=1, max_size=30), unique=True), st.integers(1, 5), st.integers(1, 100))
def test_pages_make_up_the_whole_and_only_the_last_has_no_token(rows, size, bytes_max) -> None:
    seen: list[str] = []
    while True:
        found = page(rows[len(seen) :], size=size, bytes_max=bytes_max)
        assert len(found.items) <= size
        seen += [item.id for item in found.items]
        if not found.next_token:
            break
        assert QUERY.position(found.next_token) == seen[-1]
    assert seen == rows


def test_a_page_is_cut_by_bytes_but_never_empty() -> None:
    assert [item.id for item in page(["x" * 50, "y" * 50], bytes_max=70).items] == ["x" * 50]
    assert len(page(["x" * 500], bytes_max=70).items) == 1


def test_names_come_sorted_from_behind_a_name() -> None:
    assert names_after(["c", "a", "b"], "a") == ["b", "c"]
