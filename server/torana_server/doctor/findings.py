"""What a check found, and what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Grade(enum.StrEnum):
    """A server with a problem does not start, or loses what it should keep; with a warning it may, one day."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` says what is, `advice` what to do; the latter is empty where there is nothing to do."""

    check: str
    grade: Grade
    found: str
    advice: str = ""


def ok(check: str, found: str, advice: str = "") -> Finding:
    return Finding(check, Grade.OK, found, advice)


def warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Grade.WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Grade.PROBLEM, found, advice)


def counted(number: int, thing: str) -> str:
    """`1 secret`, `2,000 secrets`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
