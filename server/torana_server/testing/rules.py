"""What a fake answers: the newest rule that fits and is not used up."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Question = TypeVar("Question")


@dataclass(slots=True)
class Rule(Generic[Question]):
    """`times` is how often it still answers; None: for ever."""

    label: str
    fits: Callable[[Question], bool]
    answer: Any
    times: int | None = None
    used: int = 0


@dataclass(slots=True)
class Rules(Generic[Question]):
    """A rule that is used up uncovers the one before it: failures first, then answers, reads in the order of a test."""

    _rules: list[Rule[Question]] = field(default_factory=list)

    def add(self, rule: Rule[Question]) -> None:
        if rule.times is not None and rule.times < 1:
            raise ValueError(f"a rule answers at least once, not {rule.times} times")
        self._rules.append(rule)

    def take(self, question: Question) -> Rule[Question] | None:
        """The rule that answers, counted as used."""
        for rule in reversed(self._rules):
            if (rule.times is None or rule.used < rule.times) and rule.fits(question):
                rule.used += 1
                return rule
        return None

    def known(self) -> str:
        """The rules as a list for people."""
        lines = [f"  {rule.label}{_spent(rule)}" for rule in self._rules]
        return "\n".join(lines) or "  nothing yet"


def _spent(rule: Rule[Any]) -> str:
    return f" (used up after {rule.times})" if rule.times is not None and rule.used >= rule.times else ""


async def answer_of(rule: Rule[Any], *arguments: object) -> Any:
    """The rule's answer. A function is called with the arguments, and awaited; an exception is raised."""
    answer = rule.answer
    if callable(answer) and not isinstance(answer, type):
        answer = answer(*arguments)
        if inspect.isawaitable(answer):
            answer = await answer
    if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
        raise answer
    return answer
