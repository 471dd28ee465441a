from __future__ import annotations

import pytest

from torana_server.resources import ResourceReference, Resources, ResourceTypes
from unit.resources.world import World


@pytest.fixture
def resources() -> Resources:
    return World().resources()


GUIDE_CONFIGS = [
    ("database", {"host": "localhost", "port": 5432, "database": "production"}),
    (
        "database",
        {
            "host": "db.example.com",
            "min_size": 10,
            "max_size": 50,
            "max_queries": 5000,
            "max_inactive_connection_lifetime": 300,
            "timeout": 30,
            "command_timeout": 60,
            "server_settings": {"application_name": "reader"},
            "ssl": "require",
        },
    ),
    (
        "http_client",
        {
            "base_url": "https://api.example.com",
            "timeout": 30,
            "headers": {"User-Agent": "gateway/1.0", "Accept": "application/json"},
            "connection_limit": 100,
            "connection_limit_per_host": 30,
            "keepalive_timeout": 30,
            "verify_ssl": True,
            "proxy": "http://proxy.example.com:3128",
        },
    ),
    ("http_client", {"timeout": 10}),
    (
        "cache",
        {"host": "localhost", "port": 6379, "db": 0, "decode_responses": True, "max_connections": 5, "ssl": False},
    ),
]


@pytest.mark.parametrize(("type_name", "config"), GUIDE_CONFIGS)
def test_the_guides_configs_are_valid(resources: Resources, type_name: str, config: dict[str, object]) -> None:
    assert resources.problems(ResourceReference(type_name, config)) == []


BAD_CONFIGS = [
    ("database", {"prot": 5432}, "config.prot", "did you mean 'port'"),
    ("database", {"port": "5432"}, "config.port", "integer"),
    ("database", {"port": 70_000}, "config.port", "65535"),
    ("database", {"port": True}, "config.port", "integer"),
    ("database", {"host": "/var/run/postgresql"}, "config.host", "pattern"),
    ("database", {"min_size": 5, "max_size": 2}, "config", "min_size (5) must not be above max_size (2)"),
    ("database", {"ssl": "maybe"}, "config.ssl", "'disable'"),
    ("database", {"timeout": float("inf")}, "config.timeout", ""),
    ("database", {"server_settings": {"work_mem": 7}}, "config.server_settings.work_mem", "string"),
    ("http_client", {"base_url": "ftp://x"}, "config.base_url", "http://"),
    ("http_client", {"base_url": "https://x/?a=1"}, "config.base_url", "no query"),
    ("http_client", {"allowed_hosts": ["a.com", "b.com/path"]}, "config.allowed_hosts[1]", "host:port"),
    ("cache", {"db": -1}, "config.db", "greater than or equal to 0"),
    ("cache", {"socket": "x"}, "config.socket", "known are acquire_timeout"),
]


@pytest.mark.parametrize(("type_name", "config", "path", "said"), BAD_CONFIGS)
def test_a_bad_config_is_refused_at_its_path(
    resources: Resources, type_name: str, config: dict[str, object], path: str, said: str
) -> None:
    violations = resources.problems(ResourceReference(type_name, config))
    assert [violation.path for violation in violations] == [path]
    assert said in violations[0].message


CREDENTIALS = [
    ("database", {"password": "canary"}, "config.password"),
    ("database", {"user": "canary"}, "config.user"),
    ("database", {"dsn": "postgresql://u:canary@h/d"}, "config.dsn"),
    ("database", {"server_settings": {"passwd": "canary"}}, "config.server_settings.passwd"),
    ("database", {"server_settings": {"options": "password=canary"}}, "config.server_settings.options"),
    ("http_client", {"base_url": "https://u:canary@x.com"}, "config.base_url"),
    (
        "http_client",
        {"base_url": "https://x.com", "headers": {"Authorization": "canary"}},
        "config.headers.Authorization",
    ),
    ("http_client", {"headers": {"X-Api-Key": "canary"}}, "config.headers.X-Api-Key"),
    ("http_client", {"headers": {"Cookie": "canary"}}, "config.headers.Cookie"),
    ("http_client", {"headers": {"X-Custom": "Bearer canary"}}, "config.headers.X-Custom"),
    ("http_client", {"api_key": "canary"}, "config.api_key"),
    ("http_client", {"access_token": "canary"}, "config.access_token"),
    ("http_client", {"proxy": "http://u:canary@proxy"}, "config.proxy"),
    ("cache", {"secret_key": "canary"}, "config.secret_key"),
    ("cache", {"private_key": "canary"}, "config.private_key"),
]


@pytest.mark.parametrize(("type_name", "config", "path"), CREDENTIALS)
def test_a_credential_in_config_is_refused_once_with_a_pointer_and_not_repeated(
    resources: Resources, type_name: str, config: dict[str, object], path: str
) -> None:
    violations = resources.problems(ResourceReference(type_name, config))
    assert [violation.path for violation in violations] == [path]
    assert "credentials_ref" in violations[0].message
    assert "canary" not in violations[0].message


def test_all_problems_of_a_reference_come_at_once(resources: Resources) -> None:
    reference = ResourceReference(
        "database",
        {"port": "x", "hots": "y", "password": "z"},
        credentials_ref="not a name",
        register_as="-",
        health_check_interval_s=0.1,
    )
    assert sorted(violation.path for violation in resources.problems(reference)) == [
        "config.hots",
        "config.password",
        "config.port",
        "credentials_ref",
        "health_check_interval_s",
        "register_as",
    ]


def test_an_unknown_type_suggests_the_nearest(resources: Resources) -> None:
    (violation,) = resources.problems(ResourceReference("databse"))
    assert (violation.path, "did you mean 'database'" in violation.message) == ("type", True)


def test_a_key_without_a_secret_is_refused(resources: Resources) -> None:
    (violation,) = resources.problems(ResourceReference("cache", credentials_key="stripe"))
    assert violation.path == "credentials_key"


def test_every_setting_of_a_type_is_in_its_schema_with_a_default_or_a_bound() -> None:
    types = ResourceTypes.standard()
    assert list(types.names()) == ["cache", "database", "http_client"]
    for name in types.names():
        schema = types.get(name).config_model.model_json_schema()
        assert schema["additionalProperties"] is False
        assert all("default" in spec or "$ref" in spec or "type" in spec for spec in schema["properties"].values())
