"""Finds credentials that were written into a step's config instead of the vault."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torana_server.core.errors import Violation
from torana_server.workflow.templates import holds_template

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:password|passwd|pwd|passphrase|secret|credentials?|secret_?key|api_?key|access_?key|private_?key"
    r"|(?:access|api|auth|bearer|client|id|refresh|security|session)_?token)$|^(?:token|authorization)$"
)
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_URL_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@")

_ADVICE = "put it into the vault and name its secret in the step's credentials_ref"


def credential_problems(
    config: Mapping[str, object], path: str, literal_fields: frozenset[str] = frozenset()
) -> Iterator[Violation]:
    """One violation for each password, token or key. Source text, and text that holds a template, is not judged."""
    for key, value in config.items():
        if key not in literal_fields:
            yield from _problems(value, f"{path}.{key}", is_secret=_is_secret_name(key))


def _problems(value: object, path: str, *, is_secret: bool) -> Iterator[Violation]:
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield from _problems(member, f"{path}.{key}", is_secret=_is_secret_name(str(key)))
    elif isinstance(value, list | tuple):
        for index, element in enumerate(value):
            yield from _problems(element, f"{path}[{index}]", is_secret=is_secret)
    elif isinstance(value, str) and value and not holds_template(value):
        if is_secret:
            yield Violation(path, f"holds a credential; {_ADVICE}")
        elif _URL_PASSWORD.search(value):
            yield Violation(path, f"holds a password in its address; {_ADVICE}")


def _is_secret_name(key: str) -> bool:
    words = _WORD_START.sub("_", key).replace("-", "_").lower()
    return _SECRET_NAME.search(words) is not None
