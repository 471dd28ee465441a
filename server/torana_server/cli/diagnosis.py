"""What `torana doctor` finds, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

import torana
from torana_server.cli import output
from torana_server.cli.exits import Exit
from torana_server.cli.output import Format
from torana_server.cli.view import Head, Listing, one_line, text_cell
from torana_server.doctor import Finding, Grade, Surroundings, examine
from torana_server.settings import load_settings

ANSWER_S_MAX = 2.0
STYLES = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.PROBLEM: "bold red"}


def diagnose(config: Path | None, form: Format) -> Exit:
    """Tells all findings. FAILED if one of them is a problem."""
    findings = list(examine(lambda: load_settings(config=config), Surroundings(server_at)))
    output.answer(findings, form, lambda console: _print(findings, console))
    return Exit.FAILED if any(one.grade is Grade.PROBLEM for one in findings) else Exit.COMPLETED


def server_at(address: str) -> str | None:
    """What the Torana server there calls itself; None when none answers."""
    host, _, port = address.rpartition(":")
    reachable = "127.0.0.1" if host in ("0.0.0.0", "[::]") else host  # noqa: S104 — an address to ask at
    try:
        with torana.BlockingClient(f"{reachable}:{port}", timeout_s=ANSWER_S_MAX, reconnect=_NONE) as client:
            info = client.get_info()
    except torana.ToranaError:
        return None
    return f"{info.title}, Torana {info.version},"


_NONE = torana.ReconnectPolicy(max_s=0.0, connect_timeout_s=ANSWER_S_MAX)


def _print(findings: Sequence[Finding], console: Console) -> None:
    if console.soft_wrap:
        output.print_listing(_listing(findings), console)
        return
    table = Table.grid(Column(no_wrap=True), Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2, 0, 0))
    for one in findings:
        found = Text.assemble(one_line(one.found), (f"\n{one_line(one.advice)}" if one.advice else "", "dim"))
        table.add_row(Text(one.grade, STYLES[one.grade]), Text(one.check), found)
    console.print(table)
    console.print(_summary(findings))


def _listing(findings: Sequence[Finding]) -> Listing:
    heads = [Head("grade"), Head("check"), Head("found", gives_way=True), Head("advice", gives_way=True)]
    rows = [[text_cell(part) for part in (one.grade, one.check, one.found, one.advice)] for one in findings]
    return Listing(heads, rows)


def _summary(findings: Sequence[Finding]) -> Text:
    problems = sum(one.grade is Grade.PROBLEM for one in findings)
    warnings = sum(one.grade is Grade.WARNING for one in findings)
    if not problems and not warnings:
        return Text("Nothing is wrong.", "green")
    told = [
        f"{count} {name}{'s' * (count > 1)}" for count, name in ((problems, "problem"), (warnings, "warning")) if count
    ]
    return Text(f"{' and '.join(told)}.", STYLES[Grade.PROBLEM if problems else Grade.WARNING])
