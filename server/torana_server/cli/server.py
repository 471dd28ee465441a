"""`torana info` and `torana stats`: what a server is and what it counts."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from torana import ServerInfo
from torana_server.cli import output
from torana_server.cli.connection import Connection, connected
from torana_server.cli.output import Format, Output
from torana_server.cli.view import Head, Listing, one_line, text_cell, time_cell


@connected
def info(connection: Connection, *, output_format: Output = Format.TABLE) -> None:
    """Show what the server is and what it allows."""
    with connection.blocking_client() as client:
        found = client.get_info()
    output.answer(found, output_format, lambda console: _draw(found, console))


def _draw(found: ServerInfo, console: Console) -> None:
    for line in info_lines(found, datetime.now(UTC)):
        console.print(line)


def info_lines(found: ServerInfo, now: datetime) -> list[Text]:
    started = time_cell(found.start_time, now).shown.plain
    facts = {
        "about": found.description,
        "server": found.server_id,
        "started": f"{started} ago" if started else "",
        "journal": f"{found.journal}, {'durable' if found.durable else 'gone with the process'}",
        "features": ", ".join(found.features),
    }
    title = "" if found.title == "Torana" else f"{one_line(found.title)}  "
    lines = [Text.assemble((title, "bold"), f"Torana {found.version}")]
    lines += [Text.assemble((f"{name:<11}", "dim"), one_line(text)) for name, text in facts.items() if text]
    lines.append(Text("limits", "dim"))
    return lines + [Text(f"  {name.replace('_', ' '):<24}{value:>14,}") for name, value in sorted(found.limits.items())]


@connected
def stats(connection: Connection, *, output_format: Output = Format.TABLE) -> None:
    """Show the server's counters since its start and its gauges of now."""
    with connection.blocking_client() as client:
        found = client.get_stats()
    listing = Listing(
        heads=(Head("name"), Head("value", right=True)),
        rows=[(text_cell(name), text_cell(value)) for name, value in sorted(found.values.items())],
    )
    output.answer_listing(found, output_format, listing)
