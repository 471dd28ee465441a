"""Which part of a secret a resource gets. Pure; errors name keys and never values."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from torana_server.core.credentials import ALLOWED_HOSTS
from torana_server.core.errors import Reason, ResourceError

_SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "gov", "ltd", "ne", "net", "nhs", "or", "org", "plc"})
"""Labels below two-letter country domains under which names are registered (example.co.uk)."""


def select_credentials(
    secret: Mapping[str, object], *, fields: frozenset[str] | None, plain_field: str = "", key: str = "", host: str = ""
) -> dict[str, object]:
    """The credentials in `secret` for a type that understands `fields`; None: any.

    With `key`, the entry of that name. Otherwise the secret itself when it has any of the fields, else the entry named
    like the registered domain of `host` (`api.stripe.com` → `stripe`). A plain string stands for `plain_field`.
    `allowed_hosts`, of the entry or else of the whole secret, comes with them. Raises ResourceError
    (CREDENTIALS_NOT_FOUND), listing the names of the keys there are; also when there is an `allowed_hosts` and it is
    not among `fields`: a type that does not heed it gets nothing.
    """
    entries = {name: value for name, value in secret.items() if name != ALLOWED_HOSTS}
    selected = _selected(entries, fields, plain_field, key, host)
    bound = selected if ALLOWED_HOSTS in selected else secret
    if ALLOWED_HOSTS not in bound:
        return selected
    if fields is not None and ALLOWED_HOSTS not in fields:
        raise credentials_error("the secret is bound to hosts by 'allowed_hosts', which this type does not heed")
    return {**selected, ALLOWED_HOSTS: bound[ALLOWED_HOSTS]}


def _selected(
    secret: Mapping[str, object], fields: frozenset[str] | None, plain_field: str, key: str, host: str
) -> dict[str, object]:
    if key:
        return _entry(secret, key, fields, plain_field)
    if fields is None or fields & secret.keys():
        return _known(secret, fields)
    provider = registered_label(host)
    if provider:
        matches = [name for name in secret if name.lower() == provider]
        if len(matches) == 1:
            return _entry(secret, matches[0], fields, plain_field)
    sought = f"an entry '{provider}' for {host}" if provider else "a way to choose one of its entries"
    raise _not_found(f"the secret has neither {_listed(fields)} nor {sought}; set credentials_key", secret)


def registered_label(host: str) -> str:
    """The label a domain was registered under: `api.stripe.com` and `stripe.co.uk` → `stripe`; "" for addresses and
    names of one label."""
    host = host.lower().rstrip(".")
    labels = host.split(".")
    if len(labels) < 2 or not all(labels) or _is_address(host):
        return ""
    if len(labels) >= 3 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL:
        return labels[-3]
    return labels[-2]


def credential_text(credentials: Mapping[str, object], field: str) -> str:
    """A credential that must be text without control characters; "" when absent."""
    value = credentials.get(field, "")
    if not isinstance(value, str) or not all(character.isprintable() for character in value):
        raise credentials_error(f"'{field}' in the secret must be a string of printable characters")
    return value


def allowed_hosts(credentials: Mapping[str, object]) -> list[str] | None:
    """The hosts that the secret binds its credentials to, lower case; None: it does not."""
    if ALLOWED_HOSTS not in credentials:
        return None
    hosts = credentials[ALLOWED_HOSTS]
    if not isinstance(hosts, list) or not hosts or not all(isinstance(host, str) and host for host in hosts):
        raise credentials_error("'allowed_hosts' in the secret must be a list of hosts")
    return [host.lower() for host in hosts]


def require_host(credentials: Mapping[str, object], host: str, port: int) -> None:
    """Raises ResourceError (CREDENTIALS_NOT_FOUND) when the secret is bound to hosts and this is none of them."""
    hosts = allowed_hosts(credentials)
    if hosts is not None and not {host.lower(), f"{host}:{port}".lower()} & set(hosts):
        raise hosts_error(hosts, [f"{host}:{port}"])


def hosts_error(allowed: Iterable[str], others: Iterable[str]) -> ResourceError:
    return credentials_error(
        f"the secret's credentials may go to {', '.join(allowed)} only, and the reference names {', '.join(others)}"
    )


def credentials_error(message: str) -> ResourceError:
    return ResourceError(message, reason=Reason.CREDENTIALS_NOT_FOUND)


def _entry(
    secret: Mapping[str, object], key: str, fields: frozenset[str] | None, plain_field: str
) -> dict[str, object]:
    if key not in secret:
        raise _not_found(f"the secret has no key '{key}'", secret)
    value = secret[key]
    if isinstance(value, str) and plain_field:
        return {plain_field: value}
    if isinstance(value, Mapping) and (fields is None or (fields - {ALLOWED_HOSTS}) & value.keys()):
        return _known(value, fields)
    wanted = f"a string or an object with {_listed(fields)}" if plain_field else f"an object with {_listed(fields)}"
    raise _not_found(f"the secret's key '{key}' must hold {wanted}", secret)


def _known(values: Mapping[str, object], fields: frozenset[str] | None) -> dict[str, object]:
    return {name: value for name, value in values.items() if fields is None or name in fields or name == ALLOWED_HOSTS}


def _not_found(problem: str, secret: Mapping[str, object]) -> ResourceError:
    names = ", ".join(sorted(secret)) or "none"
    return credentials_error(f"{problem} (its keys: {names})")


def _listed(fields: frozenset[str] | None) -> str:
    return "any of " + ", ".join(sorted(fields - {ALLOWED_HOSTS})) if fields else "fields of its own"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
