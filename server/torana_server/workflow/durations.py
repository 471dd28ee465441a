"""Durations in the JSON and YAML forms: a number of seconds, or text such as "30s", "500ms", "1h30m", "2d"."""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"


def parse_duration(value: object) -> float:
    """Seconds. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and re.fullmatch(PATTERN, value):
        return sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(value))
    raise ValueError('must be a number of seconds or text such as "30s", "500ms", "5m" or "1h30m"')


def written_duration(seconds: float) -> int | float:
    """A number of seconds, without a fraction when it is whole."""
    return int(seconds) if float(seconds).is_integer() else seconds
