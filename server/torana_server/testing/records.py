"""Rows as asyncpg gives them, whose own class cannot be made from Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class FakeRecord:
    """By index, by column name, `get`, `keys`, `values`, `items`, `dict(record)`; iterates over its values."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._columns = dict(columns)

    def __getitem__(self, key: str | int | slice) -> Any:
        return self._columns[key] if isinstance(key, str) else tuple(self._columns.values())[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self._columns.get(key, default)

    def keys(self) -> Iterator[str]:
        return iter(self._columns.keys())

    def values(self) -> Iterator[Any]:
        return iter(self._columns.values())

    def items(self) -> Iterator[tuple[str, Any]]:
        return iter(self._columns.items())

    def __iter__(self) -> Iterator[Any]:
        return self.values()

    def __len__(self) -> int:
        return len(self._columns)

    def __contains__(self, key: object) -> bool:
        return key in self._columns

    def __eq__(self, other: object) -> bool:
        """As asyncpg's: to a record or a tuple of the same values, whatever the columns are called."""
        if isinstance(other, FakeRecord | tuple):
            return tuple(self) == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        columns = " ".join(f"{name}={value!r}" for name, value in self.items())
        return f"<Record {columns}>"


Rows = Sequence[Mapping[str, Any] | FakeRecord]


def records_of(answer: object) -> list[FakeRecord]:
    """The rows that an answer stands for: a sequence of them, one row, a single value, or None for no row."""
    if answer is None:
        return []
    if isinstance(answer, FakeRecord):
        return [answer]
    if isinstance(answer, Mapping):
        return [FakeRecord(answer)]
    if isinstance(answer, list | tuple):
        return [_record(row) for row in answer]
    return [FakeRecord({"value": answer})]


def _record(row: object) -> FakeRecord:
    if isinstance(row, FakeRecord):
        return row
    if isinstance(row, Mapping):
        return FakeRecord(row)
    raise TypeError(f"a row is a mapping of its columns, not {row!r:.100}")
