"""Filters over executions: the subset of AIP-160 that lists and watches take.

    filter  = [ term { "AND" term } ]
    term    = field operator value
    field   = workflow | state | session_id | create_time | end_time | labels.KEY | labels."KEY"
    value   = a bare word, or text in double or single quotes; \\ escapes a quote or itself

Times are RFC 3339 in quotes and take all operators; the other fields take `=` and `!=`. What is not set (`end_time` of
an execution that runs, a label that is absent) is equal to nothing: only `!=` holds.
"""

from __future__ import annotations

import enum
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn, Protocol

from torana_server.core.clock import from_datetime
from torana_server.core.errors import InvalidRequestError, Reason, Violation

FILTER_CHARS_MAX: Final = 4_000
TERMS_MAX: Final = 64
LABELS: Final = "labels"
LABEL_PREFIX: Final = "labels."
TIME_FIELDS: Final = frozenset({"create_time", "end_time"})
FIELDS: Final = frozenset({"workflow", "state", "session_id", LABELS}) | TIME_FIELDS
STATES: Final = frozenset({"QUEUED", "RUNNING", "CANCELLING", "COMPLETED", "FAILED", "CANCELLED"})
"""What `state` can be compared with: those of ExecutionState that a journal holds."""


class Operator(enum.StrEnum):
    EQ = "="
    NE = "!="
    LT = "<"
    GT = ">"


@dataclass(frozen=True, slots=True)
class Term:
    """`field` is workflow, state, session_id, create_time, end_time or labels.KEY; times hold microseconds."""

    field: str
    operator: Operator
    value: str | int


@dataclass(frozen=True, slots=True)
class Filter:
    """All terms must hold. No terms: everything."""

    terms: tuple[Term, ...] = ()


EVERYTHING = Filter()


class Filterable(Protocol):
    """What a filter looks at. `execution.Summary` is one."""

    @property
    def workflow(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def create_time(self) -> int: ...
    @property
    def end_time(self) -> int | None: ...
    @property
    def labels(self) -> Mapping[str, str]: ...


_COMPARE: Final[Mapping[Operator, Callable[[Any, Any], bool]]] = {
    Operator.EQ: operator.eq,
    Operator.NE: operator.ne,
    Operator.LT: operator.lt,
    Operator.GT: operator.gt,
}


def matches(where: Filter, summary: Filterable) -> bool:
    """Whether every term holds. Values are compared by code point, times by the microsecond."""
    return all(_holds(term, summary) for term in where.terms)


def _holds(term: Term, summary: Filterable) -> bool:
    actual = _actual(term.field, summary)
    if actual is None:
        return term.operator is Operator.NE
    return _COMPARE[term.operator](actual, term.value)


def _actual(field: str, summary: Filterable) -> str | int | None:
    if field.startswith(LABEL_PREFIX):
        return summary.labels.get(field.removeprefix(LABEL_PREFIX))
    value: str | int | None = getattr(summary, field)
    return value


def parse(text: str, *, fields: frozenset[str] = FIELDS) -> Filter:
    """The filter that `text` writes; blank text is EVERYTHING.

    `fields` are those that may be named here ("labels" stands for every label). Raises InvalidRequestError
    (INVALID_FILTER) whose metadata `position` is the index of the offending character.
    """
    if len(text) > FILTER_CHARS_MAX:
        _refuse(FILTER_CHARS_MAX, f"a filter has at most {FILTER_CHARS_MAX:,} characters")
    return _Parser(text, fields).filter()


class _Token(enum.Enum):
    WORD = enum.auto()
    QUOTED = enum.auto()
    OPERATOR = enum.auto()
    END = enum.auto()


_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[\w./:+\-]+")
_OPERATOR = re.compile(r"[=!<>~:]+")
_QUOTED = re.compile(r"""(["'])((?:(?!\1|\\).|\\.)*)\1""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class _Parser:
    """Reads left to right; `_kind`, `_value` and `_start` describe the token at hand."""

    def __init__(self, text: str, fields: frozenset[str]) -> None:
        self._text = text
        self._fields = fields
        self._next = 0
        self._advance()

    def filter(self) -> Filter:
        if self._at(_Token.END):
            return EVERYTHING
        terms = [self._term()]
        while not self._at(_Token.END):
            if not self._at(_Token.WORD) or self._value != "AND":
                _refuse(self._start, f"expected AND, found {self._value!r}; OR, NOT and brackets are not supported")
            self._advance()
            if len(terms) == TERMS_MAX:
                _refuse(self._start, f"a filter has at most {TERMS_MAX} terms")
            terms.append(self._term())
        return Filter(tuple(terms))

    def _term(self) -> Term:
        start = self._start
        field = self._field()
        compare = self._operator(field)
        if not self._at(_Token.WORD, _Token.QUOTED):
            _refuse(self._start, f"expected a value for {field}")
        value = self._checked(field, self._value)
        self._advance()
        if field.partition(".")[0] not in self._fields:
            _refuse(start, f"{field} cannot be filtered on here; use {_listed(self._fields)}")
        return Term(field, compare, value)

    def _field(self) -> str:
        start, name = self._start, self._value
        if not self._at(_Token.WORD):
            _refuse(start, f"expected a field: {_listed(FIELDS)}")
        self._advance()
        if name == LABEL_PREFIX and self._at(_Token.QUOTED) and self._start == start + len(LABEL_PREFIX):
            name += self._value
            self._advance()
        if name.startswith(LABEL_PREFIX):
            if name == LABEL_PREFIX:
                _refuse(start, "expected the key of a label, as in labels.team")
        elif name == LABELS or name not in FIELDS:
            _refuse(start, f"unknown field {name!r}; use {_listed(FIELDS)}")
        return name

    def _operator(self, field: str) -> Operator:
        allowed = list(Operator) if field in TIME_FIELDS else [Operator.EQ, Operator.NE]
        if not self._at(_Token.OPERATOR) or self._value not in allowed:
            _refuse(self._start, f"{field} takes {' or '.join(allowed)}, found {self._value!r}")
        found = Operator(self._value)
        self._advance()
        return found

    def _checked(self, field: str, value: str) -> str | int:
        if field in TIME_FIELDS:
            return self._time(value)
        if field != "state":
            return value
        state = value.upper().removeprefix("EXECUTION_STATE_")
        if state not in STATES:
            _refuse(self._start, f"unknown state {value!r}; use one of {', '.join(sorted(STATES))}")
        return state

    def _time(self, value: str) -> int:
        try:
            return from_datetime(datetime.fromisoformat(value))
        except (ValueError, OverflowError):
            _refuse(self._start, f'{value!r} is no RFC 3339 time with a timezone, e.g. "2026-01-01T00:00:00Z"')

    def _at(self, *kinds: _Token) -> bool:
        return self._kind in kinds

    def _advance(self) -> None:
        start = _end(_SPACE.match(self._text, self._next))
        self._start = start
        if start == len(self._text):
            self._kind, self._value, self._next = _Token.END, "the end", start
        elif found := _QUOTED.match(self._text, start):
            self._kind, self._value, self._next = _Token.QUOTED, _ESCAPED.sub(r"\1", found[2]), found.end()
        elif found := _OPERATOR.match(self._text, start):
            self._kind, self._value, self._next = _Token.OPERATOR, found[0], found.end()
        elif found := _WORD.match(self._text, start):
            self._kind, self._value, self._next = _Token.WORD, found[0], found.end()
        else:
            _refuse(start, f"unexpected {self._text[start]!r}; put values with special characters in quotes")


def _end(found: re.Match[str] | None) -> int:
    assert found is not None
    return found.end()


def _listed(fields: frozenset[str]) -> str:
    return ", ".join(sorted("labels.KEY" if field == LABELS else field for field in fields))


def _refuse(position: int, message: str) -> NoReturn:
    raise InvalidRequestError(
        f"invalid filter at character {position}: {message}",
        reason=Reason.INVALID_FILTER,
        metadata={"position": str(position)},
        violations=[Violation("filter", f"at {position}: {message}")],
    )
