from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torana_server.adapters.postgres.notices import (
    PAYLOAD_BYTES_MAX,
    Asked,
    Notice,
    Released,
    Written,
    parsed,
    payloads,
)

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
notices = st.one_of(
    st.builds(Written, names, names, st.integers(0, 2**63), st.integers(0, 2**63)),
    st.builds(Asked, names),
    st.just(Released()),
)


@given(st.lists(notices, max_size=200))
def test_whatever_is_named_in_them_notices_arrive_in_order_in_payloads_that_postgresql_takes(
    said: list[Notice],
) -> None:
    sent = list(payloads(7, said))
    assert all(payload.isascii() and "\x00" not in payload and len(payload) < 8_000 for payload in sent)
    heard = [parsed(payload) for payload in sent]
    assert {sender for sender, _ in heard} <= {7}
    assert [notice for _, some in heard for notice in some] == said


def test_a_notice_that_fits_into_no_payload_is_left_out() -> None:
    [payload] = payloads(7, [Asked("e1"), Asked("x" * PAYLOAD_BYTES_MAX), Asked("e2")])
    assert parsed(payload) == (7, [Asked("e1"), Asked("e2")])


def test_what_newer_servers_say_is_passed_over() -> None:
    assert parsed("7\nz 1 2 3\nc e1\ne e1 acme") == (7, [Asked("e1")])
