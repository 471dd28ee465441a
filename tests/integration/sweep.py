"""Looks for planted values in everything a server gives out, however they are written."""

from __future__ import annotations

import base64
import itertools
import json
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

import grpc


def forms(value: str) -> dict[str, bytes]:
    """How a value may be written. Forms that are part of another are left to that one."""
    data = value.encode()
    written = {
        "raw": data,
        "utf-16": value.encode("utf-16-le"),
        "hex": data.hex().encode(),
        "HEX": data.hex().upper().encode(),
        "url": quote(value).encode(),
        "url, all": quote(value, safe="").encode(),
        "form": quote_plus(value).encode(),
        "json": json.dumps(value)[1:-1].encode(),
        "json, unicode": json.dumps(value, ensure_ascii=False)[1:-1].encode(),
        "repr": repr(value)[1:-1].encode(),
    }
    for shift in range(3):
        # Without the characters at the ends that what stands before and behind it decides, too.
        whole = base64.b64encode(bytes(shift) + data + bytes(-(shift + len(data)) % 3))
        inner = whole[-(-shift * 4 // 3) : (shift + len(data)) * 4 // 3]
        written[f"base64, shifted by {shift}"] = inner
        written[f"base64 for URLs, shifted by {shift}"] = inner.translate(bytes.maketrans(b"+/", b"-_"))
    return written


class Sweep:
    """Collects what was given out, by where it was found."""

    def __init__(self) -> None:
        self._found: dict[str, bytes] = {}
        self._numbers = itertools.count()

    def add(self, where: str, *given: object) -> None:
        for one in given:
            data = one if isinstance(one, bytes) else f"{one!r}\n{one}".encode(errors="backslashreplace")
            self._found[f"{where} #{next(self._numbers)}"] = data

    def add_files(self, folder: Path) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.add(path.name, path.read_bytes())

    def add_error(self, where: str, error: BaseException) -> None:
        """With its traceback, its attributes, its causes, and the details and trailers of the call that failed."""
        self.add(where, error, "".join(traceback.format_exception(error)), getattr(error, "__dict__", {}))
        for cause in (error.__cause__, error.__context__):
            if isinstance(cause, grpc.aio.AioRpcError):
                self.add(where, cause.details(), cause.debug_error_string())
                self.add(where, *(value for trailer in cause.trailing_metadata() for value in trailer))

    def leaks(self, planted: Mapping[str, str]) -> list[str]:
        """What of `planted`, name to value, was given out, and where."""
        return [
            f"{name} ({form}) in {where}: {_around(data, written)}"
            for name, value in planted.items()
            for form, written in forms(value).items()
            for where, data in self._found.items()
            if written in data
        ]

    def places(self, values: Iterable[str]) -> set[str]:
        """Where any of the values was given out."""
        return set(self._places([form for value in values for form in forms(value).values()]))

    def _places(self, written: list[bytes]) -> Iterator[str]:
        for where, data in self._found.items():
            if any(one in data for one in written):
                yield where.partition(" #")[0]


def _around(data: bytes, written: bytes) -> str:
    at = data.index(written)
    before, behind = data[max(0, at - 60) : at], data[at + len(written) :][:60]
    return f"{before.decode(errors='replace')}>>>{written.decode(errors='replace')}<<<{behind.decode(errors='replace')}"
