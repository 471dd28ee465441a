"""`torana resources`: what workflows reach, and how it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from torana import Resource, ResourceType
from torana_server.cli import candidates, output
from torana_server.cli.connection import Connection, connected
from torana_server.cli.exits import Exit
from torana_server.cli.grammar import command, group
from torana_server.cli.output import Format, Output
from torana_server.cli.view import Head, Listing, latency_cell, milliseconds, one_line, state_cell, text_cell, time_cell

commands = group("The databases, APIs and caches that workflows reach.")

Name = Annotated[
    str, typer.Argument(help="Name of the resource, as `list` shows it.", autocompletion=candidates.resources)
]


@command(commands, "list", examples=("torana resources list", "torana resources list -o json"))
@connected
def list_(connection: Connection, *, output_format: Output = Format.TABLE) -> None:
    """List shared names and live pools."""
    with connection.blocking_client() as client:
        found = list(client.list_resources())
    output.answer_listing(found, output_format, resources_listing(found, datetime.now(UTC)))


def resources_listing(resources: Sequence[Resource], now: datetime) -> Listing:
    heads = Head("name"), Head("type"), Head("state"), Head("leases", right=True), Head("latency", right=True)
    return Listing(
        heads=(*heads, Head("checked", right=True), Head("points at", gives_way=True)),
        rows=[
            (
                text_cell(one.name),
                text_cell(one.type),
                state_cell(one.state),
                text_cell(one.leases),
                latency_cell(one.check_latency),
                time_cell(one.check_time, now),
                text_cell(one.description),
            )
            for one in resources
        ],
        empty="no resource is registered and no pool is open",
    )


@command(commands, "show", examples=("torana resources show warehouse",))
@connected
def show(connection: Connection, *, name: Name, output_format: Output = Format.TABLE) -> None:
    """Show a resource: its pool, its last check, where its credentials come from."""
    with connection.blocking_client() as client:
        found = client.get_resource(name)
    output.answer(found, output_format, lambda console: _draw(found, console))


@command(commands, "check", examples=("torana resources check warehouse",))
@connected
def check(connection: Connection, *, name: Name, output_format: Output = Format.TABLE) -> Exit:
    """Check a live pool now. The code is 1 when it does not answer.

    An idle resource has no pool, and none is opened for this.
    """
    with connection.blocking_client() as client:
        found = client.check_resource(name)
    output.answer(found, output_format, lambda console: _draw(found, console))
    return Exit.FAILED if found.state == "unhealthy" else Exit.COMPLETED


@command(commands, "drain", examples=("torana resources drain warehouse",))
@connected
def drain(connection: Connection, *, name: Name, output_format: Output = Format.TABLE) -> None:
    """Close a pool once its leases are returned. The next execution that needs it opens a new one.

    Do this after a change behind the name, such as a database that has moved.
    """
    with connection.blocking_client() as client:
        found = client.drain_resource(name)
    output.answer(found, output_format, lambda console: _draw(found, console))


def _draw(resource: Resource, console: Console) -> None:
    for line in resource_lines(resource, datetime.now(UTC)):
        console.print(line)


def resource_lines(resource: Resource, now: datetime) -> list[Text]:
    latency = "" if resource.check_latency is None else f" in {milliseconds(resource.check_latency)}"
    checked = time_cell(resource.check_time, now).shown.plain
    facts = {
        "points at": resource.description,
        "leases": str(resource.leases),
        "checked": f"{checked} ago{latency}" if checked else "",
        "last error": resource.last_error,
        "pool": ", ".join(f"{name} {value:,}" for name, value in resource.pool.items()),
        "secret": resource.credentials_ref,
        "reserved": "by the operator" if resource.reserved else "",
    }
    heading = Text.assemble((one_line(resource.name), "bold"), f"  {resource.type}  ", state_cell(resource.state).shown)
    return [
        heading,
        *(Text.assemble((f"{name:<11}", "dim"), one_line(text)) for name, text in facts.items() if text),
    ]


@command(
    commands, "types", examples=("torana resources types", "torana resources types -o json | jq '.[0].config_schema'")
)
@connected
def types(connection: Connection, *, output_format: Output = Format.TABLE) -> None:
    """List the types of resources that the server can open. As JSON or YAML each has the schema of its config."""
    with connection.blocking_client() as client:
        found = list(client.list_resource_types())
    output.answer_listing([_with_schema(one) for one in found], output_format, types_listing(found))


def _with_schema(one: ResourceType) -> dict[str, Any]:
    return {"name": one.name, "description": one.description, "config_schema": json.loads(one.config_schema)}


def types_listing(types: Sequence[ResourceType]) -> Listing:
    return Listing(
        heads=(Head("type"), Head("description", gives_way=True)),
        rows=[(text_cell(one.name), text_cell(one.description)) for one in types],
    )
