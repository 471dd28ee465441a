from __future__ import annotations

import pytest
from yarl import URL

from torana_server.core.errors import Reason, ResourceError
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
    assert permitted_origins(HttpClientConfig(allowed_hosts=[host])) == [origin]
