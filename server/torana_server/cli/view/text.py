"""Small pieces of text."""

from __future__ import annotations

from datetime import timedelta

from torana_server import telemetry

LINE_CHARACTERS_MAX = 500


def one_line(text: str) -> str:
    """One printable line: what a step says cannot steer a terminal or forge a line, and is cut when very long."""
    shown = telemetry.one_line(" ".join(text.split("\n")).expandtabs(4))
    return shown if len(shown) <= LINE_CHARACTERS_MAX else f"{shown[: LINE_CHARACTERS_MAX - 1]}…"


def seconds(elapsed_s: float) -> str:
    """ "0.42s", "12.3s", "2m 05s", "1h 02m": six characters or so."""
    if elapsed_s < 9.995:
        return f"{elapsed_s:.2f}s"
    if elapsed_s < 59.95:
        return f"{elapsed_s:.1f}s"
    minutes, rest = divmod(round(elapsed_s), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    return f"{minutes // 60}h {minutes % 60:02}m"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def ago(elapsed: timedelta) -> str:
    """ "4s", "12m", "3h", "5d": whole units, cut and not rounded. What lies ahead by a skewed clock is "0s"."""
    elapsed_s = max(0, int(elapsed.total_seconds()))
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if elapsed_s >= size_s:
            return f"{elapsed_s // size_s}{unit}"
    return f"{elapsed_s}s"


def milliseconds(elapsed: timedelta) -> str:
    """ "0.42 ms", "12 ms", and from a second on as `seconds`."""
    elapsed_s = elapsed.total_seconds()
    if elapsed_s >= 1:
        return seconds(elapsed_s)
    return f"{elapsed_s * 1_000:.2f} ms" if elapsed_s < 0.01 else f"{elapsed_s * 1_000:.0f} ms"
