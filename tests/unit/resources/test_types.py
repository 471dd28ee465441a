from __future__ import annotations

from typing import Any

import pytest
from yarl import URL

from torana_server.core.errors import Reason, ResourceError
from torana_server.resources.types.cache import CacheConfig, CacheType
from torana_server.resources.types.database import DatabaseConfig, DatabaseType, connect_arguments
from torana_server.resources.types.http_client import HttpClientConfig, Origin, joined, permitted_origins


def test_a_dsn_is_taken_apart_and_config_wins_over_it() -> None:
    secret = {"dsn": "postgresql://u%40x:p%2Fw@db.example.com:6000/app?sslmode=require"}
    arguments = connect_arguments(DatabaseConfig(database="other"), secret)
    assert {name: arguments[name] for name in ("host", "port", "user", "database", "ssl")} == {
        "host": "db.example.com",
        "port": 6000,
        "user": "u@x",
        "database": "other",
        "ssl": "require",
    }
    assert arguments["password"]() == "p/w"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://canary@/app",
        "postgresql://u:canary@h/app?passfile=/etc/passwd",
        "postgresql://u:canary@h/app?host=/var/run",
        "postgresql://u:canary@h:port/app",
        "host=h password=canary",
        "mysql://u:canary@h/app",
    ],
)
def test_a_dsn_of_another_form_or_with_files_of_the_server_is_refused_and_not_repeated(dsn: str) -> None:
    with pytest.raises(ResourceError) as caught:
        connect_arguments(DatabaseConfig(), {"dsn": dsn})
    assert caught.value.reason is Reason.CREDENTIALS_NOT_FOUND
    assert "canary" not in str(caught.value)


def test_a_login_without_user_is_refused() -> None:
    with pytest.raises(ResourceError, match="needs 'user' and 'password', or 'dsn'"):
        connect_arguments(DatabaseConfig(), {"password": "p"})


def test_the_driver_looks_nothing_up_in_the_servers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "canary")
    monkeypatch.setenv("PGHOST", "elsewhere")
    arguments = connect_arguments(DatabaseConfig(), {"user": "u"})
    assert (arguments["host"], arguments["port"], arguments["database"], arguments["password"]()) == (
        "localhost",
        5432,
        "u",
        "",
    )


@pytest.mark.parametrize(
    ("config", "description"),
    [
        (DatabaseConfig(host="db.example.com", database="app"), "db.example.com:5432/app"),
        (DatabaseConfig(host="::1", port=6000), "[::1]:6000/"),
    ],
)
def test_a_database_is_described_by_where_it_is(config: DatabaseConfig, description: str) -> None:
    assert DatabaseType().describe(config) == description


@pytest.mark.parametrize(
    ("base", "path", "whole"),
    [
        ("https://x.com", "/a", "https://x.com/a"),
        ("https://x.com/v1", "/a", "https://x.com/v1/a"),
        ("https://x.com/v1/", "a?b=1", "https://x.com/v1/a?b=1"),
        ("https://x.com/v1", "?b=1", "https://x.com/v1?b=1"),
        ("https://x.com/v1", "", "https://x.com/v1"),
        ("https://x.com", "//evil.com/a", "https://x.com/evil.com/a"),
        ("https://x.com", "/go?to=https://y.com", "https://x.com/go?to=https://y.com"),
        ("https://x.com", "https://y.com/a", "https://y.com/a"),
        (None, "https://y.com/a", "https://y.com/a"),
    ],
)
def test_paths_go_below_the_base(base: str | None, path: str, whole: str) -> None:
    assert joined(base, path) == URL(whole)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("api.example.com", Origin("https", "api.example.com", 443)),
        ("api.example.com:8443", Origin("https", "api.example.com", 8443)),
        ("http://api.example.com", Origin("http", "api.example.com", 80)),
        ("127.0.0.1:8080", Origin("http", "127.0.0.1", 8080)),
        ("localhost", Origin("http", "localhost", 80)),
    ],
)
def test_allowed_hosts_mean_https_but_on_this_machine(host: str, origin: Origin) -> None:
    assert permitted_origins(HttpClientConfig(allowed_hosts=[host]), {}) == [origin]


API, CDN = Origin("https", "api.example.com", 443), Origin("https", "cdn.example.com", 443)


@pytest.mark.parametrize(
    ("config", "secret", "permitted"),
    [
        ({}, ["api.example.com", "cdn.example.com"], [API, CDN]),
        ({"base_url": "https://api.example.com/v1"}, ["api.example.com", "cdn.example.com"], [API]),
        ({"allowed_hosts": ["API.example.com"]}, ["api.EXAMPLE.com", "cdn.example.com"], [API]),
        (
            {"base_url": "https://api.example.com", "proxy": "http://proxy.example.com:3128"},
            ["api.example.com", "http://proxy.example.com:3128"],
            [API],
        ),
    ],
)
def test_the_hosts_of_the_secret_stand_in_for_those_of_the_reference_which_may_only_be_fewer(
    config: dict[str, Any], secret: list[str], permitted: list[Origin]
) -> None:
    assert permitted_origins(HttpClientConfig(**config), {"token": "t", "allowed_hosts": secret}) == permitted


@pytest.mark.parametrize(
    ("config", "credentials", "said"),
    [
        ({}, {"token": "t"}, "nothing says which hosts"),
        (
            {"base_url": "https://evil.com"},
            {"token": "t", "allowed_hosts": ["api.example.com"]},
            "https://evil.com:443",
        ),
        ({"base_url": "http://api.example.com"}, {"token": "t", "allowed_hosts": ["api.example.com"]}, "http://api"),
        (
            {"allowed_hosts": ["evil.com"]},
            {"token": "t", "allowed_hosts": ["api.example.com"]},
            "may go to https://api",
        ),
        ({}, {"token": "t", "allowed_hosts": ["https://x/path"]}, "must be host"),
        ({}, {"token": "t", "allowed_hosts": "api.example.com"}, "must be a list of hosts"),
        ({}, {"token": "t", "allowed_hosts": []}, "must be a list of hosts"),
        ({"base_url": "https://api.example.com"}, {"token": "t", "allowed_hosts": None}, "must be a list of hosts"),
        (
            {"base_url": "https://api.example.com", "proxy": "http://evil.com:3128"},
            {"token": "t", "allowed_hosts": ["api.example.com"]},
            "the reference names http://evil.com:3128",
        ),
    ],
)
def test_credentials_without_a_host_or_for_other_hosts_are_refused(
    config: dict[str, Any], credentials: dict[str, Any], said: str
) -> None:
    with pytest.raises(ResourceError, match=said) as caught:
        permitted_origins(HttpClientConfig(**config), credentials)
    assert caught.value.reason is Reason.CREDENTIALS_NOT_FOUND


@pytest.mark.parametrize("hosts", [["db.example.com"], ["other", "DB.example.com:5432"], None])
def test_a_database_takes_a_secret_for_its_host(hosts: list[str] | None) -> None:
    config = DatabaseConfig(host="db.example.com")
    credentials = {"user": "u", "password": "p"} | ({"allowed_hosts": hosts} if hosts else {})
    assert connect_arguments(config, credentials)["host"] == "db.example.com"


@pytest.mark.parametrize("login", [{"user": "u", "password": "p"}, {"dsn": "postgresql://u:p@evil.com/app"}])
def test_a_database_elsewhere_gets_no_secret_that_is_bound_to_a_host(login: dict[str, str]) -> None:
    config = DatabaseConfig(host=None if "dsn" in login else "evil.com")
    with pytest.raises(ResourceError, match=r"may go to db.example.com only, and the reference names evil.com:5432"):
        connect_arguments(config, {**login, "allowed_hosts": ["db.example.com"]})


async def test_a_cache_elsewhere_gets_no_secret_that_is_bound_to_a_host() -> None:
    with pytest.raises(ResourceError, match=r"may go to cache\.example\.com:6380 only"):
        await CacheType().open(
            CacheConfig(host="cache.example.com"), {"password": "p", "allowed_hosts": ["cache.example.com:6380"]}
        )
