"""Filters over executions: the subset of AIP-160 that lists and watches take."""

from __future__ import annotations

import enum
from dataclasses import dataclass


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
