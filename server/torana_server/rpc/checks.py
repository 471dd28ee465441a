"""What a request must look like. Everything that is wrong with it is said at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from google.protobuf.duration_pb2 import Duration

from torana_server.adapters.wire.messages import seconds_of
from torana_server.core.errors import InvalidRequestError, Violation
from torana_server.core.ids import NAME_RULE, is_id, is_name
from torana_server.core.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from torana_server.execution import EventKind

DURATION_S_MAX: Final = 315_576_000_000
"""What google.protobuf.Duration allows: 10,000 years."""
FILTERED_STEPS_MAX: Final = 1_000

_KINDS: Final = frozenset(kind.value for kind in EventKind)


class Checks:
    """Collects violations; `done` raises them."""

    __slots__ = ("violations",)

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def fail(self, path: str, message: str) -> None:
        self.violations.append(Violation(path, message))

    def done(self) -> None:
        """Raises InvalidRequestError when anything is wrong."""
        if self.violations:
            raise InvalidRequestError("the request is not valid", violations=self.violations)

    def execution(self, path: str, value: str) -> None:
        if not is_id(value):
            self.fail(path, "required: the id of an execution" if not value else "an execution's id is a UUIDv7")

    def name(self, path: str, value: str) -> None:
        if not is_name(value):
            self.fail(path, f"{'required: ' if not value else ''}a name is {NAME_RULE}")

    def text(self, path: str, value: str, chars_max: int) -> None:
        if len(value) > chars_max:
            self.fail(path, f"at most {chars_max:,} characters")

    def required(self, path: str, *, given: bool) -> None:
        if not given:
            self.fail(path, "required")

    def sequence(self, path: str, value: int) -> None:
        if value < 0:
            self.fail(path, "a sequence is not negative; 0 is the beginning")

    def page_size(self, value: int) -> int:
        """The size to use."""
        if not 0 <= value <= PAGE_SIZE_MAX:
            self.fail("page_size", f"between 1 and {PAGE_SIZE_MAX:,}; 0 for {PAGE_SIZE_DEFAULT}")
        return value or PAGE_SIZE_DEFAULT

    def kinds(self, path: str, values: Collection[int]) -> frozenset[EventKind]:
        unknown = sorted(set(values) - _KINDS)
        if unknown:
            self.fail(path, f"not kinds of events: {', '.join(map(str, unknown[:5]))}")
            return frozenset()
        return frozenset(map(EventKind, values))

    def steps(self, path: str, values: Collection[str]) -> frozenset[str]:
        if len(values) > FILTERED_STEPS_MAX:
            self.fail(path, f"at most {FILTERED_STEPS_MAX:,} steps")
        for index, value in enumerate(values):
            if not is_name(value):
                self.fail(f"{path}[{index}]", f"a step's name is {NAME_RULE}")
        return frozenset(values)

    def duration(self, path: str, message: Duration, *, seconds_min: float, seconds_max: float) -> float:
        """The duration in seconds."""
        if not is_duration(message) or not seconds_min <= (value := seconds_of(message)) <= seconds_max:
            self.fail(path, f"between {seconds_min:,g} s and {seconds_max:,g} s")
            return seconds_min
        return value

    def merge(self, violations: Iterable[Violation], prefix: str = "") -> None:
        self.violations += [Violation(f"{prefix}{one.path}", one.message) for one in violations]


def is_duration(message: Duration) -> bool:
    """Whether its numbers make one duration: same sign, within range."""
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > DURATION_S_MAX or abs(nanos) >= 1_000_000_000:
        return False
    return seconds == 0 or nanos == 0 or (seconds < 0) == (nanos < 0)
