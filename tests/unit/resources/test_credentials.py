from __future__ import annotations

import pytest

from torana_server.core.errors import Reason, ResourceError
from torana_server.resources.credentials import credential_text, registered_label, select_credentials
from torana_server.resources.types.database import DatabaseType
from torana_server.resources.types.http_client import HttpClientType, credential_headers

HTTP = HttpClientType.credential_fields
DATABASE = DatabaseType.credential_fields
PROVIDERS = {"stripe": "sk-canary", "sendgrid": {"api_key": "SG-canary", "header": "X-Key"}, "Twilio": "AC-canary"}


@pytest.mark.parametrize(
    ("secret", "key", "host", "selected"),
    [
        ({"token": "t"}, "", "api.stripe.com", {"token": "t"}),
        ({"token": "t", "note": "left out"}, "", "", {"token": "t"}),
        (PROVIDERS, "", "api.stripe.com", {"token": "sk-canary"}),
        (PROVIDERS, "", "STRIPE.co.uk", {"token": "sk-canary"}),
        (PROVIDERS, "", "api.twilio.com", {"token": "AC-canary"}),
        (PROVIDERS, "sendgrid", "api.stripe.com", {"api_key": "SG-canary", "header": "X-Key"}),
        ({**PROVIDERS, "token": "t"}, "stripe", "", {"token": "sk-canary"}),
    ],
)
def test_an_http_client_gets_the_secret_or_its_entry(
    secret: dict[str, object], key: str, host: str, selected: dict[str, object]
) -> None:
    assert select_credentials(secret, fields=HTTP, plain_field="token", key=key, host=host) == selected


@pytest.mark.parametrize(
    ("secret", "key", "host", "said"),
    [
        (PROVIDERS, "", "api.example.com", "an entry 'example' for api.example.com"),
        (PROVIDERS, "", "stripe.evil.com", "an entry 'evil'"),
        (PROVIDERS, "", "127.0.0.1", "set credentials_key"),
        (PROVIDERS, "", "", "set credentials_key"),
        (PROVIDERS, "mailgun", "", "no key 'mailgun'"),
        ({"stripe": 7}, "stripe", "", "a string or an object"),
        ({"stripe": {"colour": "red"}}, "", "stripe.com", "a string or an object"),
        ({"stripe": "a", "Stripe": "b"}, "", "stripe.com", "set credentials_key"),
        ({}, "", "stripe.com", "its keys: none"),
    ],
)
def test_no_match_lists_the_key_names_and_no_values(secret: dict[str, object], key: str, host: str, said: str) -> None:
    with pytest.raises(ResourceError) as caught:
        select_credentials(secret, fields=HTTP, plain_field="token", key=key, host=host)
    assert caught.value.reason is Reason.CREDENTIALS_NOT_FOUND
    assert said in str(caught.value)
    assert all(name in str(caught.value) for name in secret)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("secret", "selected"),
    [
        ({"token": "t", "allowed_hosts": ["a"]}, {"token": "t", "allowed_hosts": ["a"]}),
        ({"stripe": "sk", "allowed_hosts": ["a"]}, {"token": "sk", "allowed_hosts": ["a"]}),
        ({"stripe": {"token": "sk"}, "allowed_hosts": ["a"]}, {"token": "sk", "allowed_hosts": ["a"]}),
        (
            {"stripe": {"token": "sk", "allowed_hosts": ["b"]}, "allowed_hosts": ["a"]},
            {"token": "sk", "allowed_hosts": ["b"]},
        ),
        (
            {"stripe": {"token": "sk", "allowed_hosts": None}, "allowed_hosts": ["a"]},
            {"token": "sk", "allowed_hosts": None},
        ),
    ],
)
def test_the_hosts_of_an_entry_or_else_of_the_secret_come_with_the_credentials(
    secret: dict[str, object], selected: dict[str, object]
) -> None:
    assert select_credentials(secret, fields=HTTP, plain_field="token", host="api.stripe.com") == selected


def test_hosts_alone_are_no_credentials() -> None:
    with pytest.raises(ResourceError, match="its keys: none"):
        select_credentials({"allowed_hosts": ["a"]}, fields=HTTP, plain_field="token")


def test_a_type_that_does_not_heed_the_hosts_of_a_secret_gets_nothing_of_it() -> None:
    with pytest.raises(ResourceError, match="which this type does not heed"):
        select_credentials({"password": "p", "allowed_hosts": ["a"]}, fields=frozenset({"password"}))


def test_a_type_of_no_fields_gets_the_whole_secret_or_entry() -> None:
    assert select_credentials({"a": 1, "b": "x"}, fields=None) == {"a": 1, "b": "x"}
    assert select_credentials({"a": {"c": 2}}, fields=None, key="a") == {"c": 2}


def test_a_plain_string_is_no_login_for_a_database() -> None:
    with pytest.raises(ResourceError, match="an object with any of dsn, password, user"):
        select_credentials({"main": "pw"}, fields=DATABASE, key="main")


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("api.stripe.com", "stripe"),
        ("stripe.com", "stripe"),
        ("a.b.example.co.uk", "example"),
        ("co.uk", "co"),
        ("localhost", ""),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("", ""),
        ("api.stripe.com.", "stripe"),
    ],
)
def test_the_registered_label_of_a_host(host: str, label: str) -> None:
    assert registered_label(host) == label


@pytest.mark.parametrize(
    ("credentials", "headers"),
    [
        ({}, {}),
        ({"token": "t"}, {"Authorization": "Bearer t"}),
        ({"api_key": "k"}, {"Authorization": "Bearer k"}),
        ({"api_key": "k", "header": "X-Api-Key"}, {"X-Api-Key": "k"}),
        ({"api_key": "k", "header": "Authorization: Token"}, {"Authorization": "Token k"}),
        ({"username": "u", "password": "p"}, {"Authorization": "Basic dTpw"}),
        ({"token": "t", "headers": {"X-Team": "7"}}, {"Authorization": "Bearer t", "X-Team": "7"}),
    ],
)
def test_credentials_become_headers(credentials: dict[str, object], headers: dict[str, str]) -> None:
    assert credential_headers(credentials) == headers


@pytest.mark.parametrize("credentials", [{"token": 7}, {"token": "a\r\nX: y"}, {"headers": "x"}, {"password": "p"}])
def test_credentials_that_cannot_be_headers_are_refused(credentials: dict[str, object]) -> None:
    with pytest.raises(ResourceError) as caught:
        credential_headers(credentials)
    assert caught.value.reason is Reason.CREDENTIALS_NOT_FOUND


def test_a_credential_must_be_text() -> None:
    assert credential_text({}, "user") == ""
    with pytest.raises(ResourceError, match="'user' in the secret must be a string"):
        credential_text({"user": 1}, "user")
