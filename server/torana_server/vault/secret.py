"""`Secret`: plaintext that does not show itself."""

from __future__ import annotations

import hmac
import json
from typing import Any, NoReturn

REDACTED = "[redacted]"


class Secret:
    """One decrypted JSON object, immutable.

    `repr`, `str` and `format` show `Secret([redacted])`; pickling and JSON raise TypeError. The one way to
    the values is `reveal()`. Erasure from memory is not promised: drivers need the values as `str`.
    """

    __slots__ = ("__plaintext",)

    def __init__(self, plaintext: bytes) -> None:
        """`plaintext` is the UTF-8 JSON text of an object, as `encode_value` makes it."""
        self.__plaintext = plaintext

    def reveal(self) -> dict[str, Any]:
        """The values. Every call returns a fresh dict, so that no reader can change another's."""
        values: dict[str, Any] = json.loads(self.__plaintext)
        return values

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__plaintext, other.__plaintext)

    __hash__ = None  # type: ignore[assignment] # a hash of the value would tell about the value

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: pass the secret's name and read it where it is needed")
