from __future__ import annotations

import pytest

from torana_server.core.errors import InvalidRequestError
from torana_server.resources import (
    CacheFactory,
    DatabasePoolFactory,
    HttpClientFactory,
    PoolFactory,
    ResourceRegistry,
)

CANARY = "canary-pw"


@pytest.mark.parametrize(
    ("factory", "shown"),
    [
        (
            DatabasePoolFactory(host="db.example.com", port=5433, database="app", user="u", password=CANARY),
            "DatabasePoolFactory(db.example.com:5433/app)",
        ),
        (
            HttpClientFactory(base_url="https://api.example.com", token=CANARY),
            "HttpClientFactory(https://api.example.com)",
        ),
        (CacheFactory(host="cache.example.com", password=CANARY), "CacheFactory(cache.example.com:6379/0)"),
    ],
)
def test_a_factory_shows_where_it_points_and_no_credentials(factory: PoolFactory[object], shown: str) -> None:
    assert repr(factory) == shown
    registry = ResourceRegistry()
    registry.register_factory("main", factory)
    assert CANARY not in repr(registry.get("any", "main"))


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        DatabasePoolFactory(host="db", prot=5432, min_size=20, port="x", password=CANARY)
    assert sorted(violation.path for violation in caught.value.violations) == ["port", "prot"]
    assert "did you mean 'port'" in str(caught.value)
    assert CANARY not in str(caught.value)


async def test_what_a_factory_creates_works_without_a_gateway_and_is_closed_by_it() -> None:
    factory = HttpClientFactory(base_url="https://api.example.com", headers={"Accept": "text/plain"}, token=CANARY)
    client = await factory.create()
    assert (client.base_url, client.headers) == ("https://api.example.com", {"Accept": "text/plain"})
    assert CANARY not in repr(client)
    session = client._pool.session
    await factory.close(client)
    await factory.close(client)
    assert session.closed
