"""`torana secrets`: put, list and delete what the vault holds. No value is ever an argument or shown."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from torana import Secret, SecretVersion
from torana_server.cli import arguments, candidates, output
from torana_server.cli.asking import confirm
from torana_server.cli.connection import Connection, connected
from torana_server.cli.exits import UsageError
from torana_server.cli.grammar import command, group
from torana_server.cli.output import Format, Output
from torana_server.cli.reading import source_name, text_of
from torana_server.cli.view import Head, Listing, plural, state_cell, text_cell, time_cell

commands = group("Credentials in the server's vault. Values go in and never come out.")

Name = Annotated[
    str, typer.Argument(help="Name of the secret, as `credentials_ref` gives it.", autocompletion=candidates.secrets)
]


@command(
    commands,
    "put",
    examples=(
        "torana secrets put warehouse --field user --field password",
        "torana secrets put warehouse --file warehouse.json",
        "pass show warehouse | torana secrets put warehouse -",
    ),
)
@connected
def put(
    connection: Connection,
    *,
    name: Name,
    source: Annotated[str, typer.Argument(metavar="[-]", help="`-`: read a JSON object from standard input.")] = "",
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, readable=True, help="Read a JSON object from a file.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="FIELD", help="Ask for this field's value, hidden. Repeat it for more."),
    ] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Store a secret, or a new version of it.

    The value is a JSON object, such as {"user": "etl", "password": "…"}. It comes from hidden prompts, from standard
    input or from a file, never from an argument: arguments are seen in process lists and shell histories.

    Without options the command asks for field names and values until a name is left empty.
    """
    value = secret_value(source, file, fields or [])
    with connection.blocking_client() as client:
        stored = client.put_secret(name, value)
    said = f"stored {stored.name}, version {stored.version}"
    output.answer(stored, output_format, lambda console: console.print(said))


@command(commands, "list", examples=("torana secrets list", "torana secrets list -o json | jq -r '.[].name'"))
@connected
def list_(connection: Connection, *, output_format: Output = Format.TABLE) -> None:
    """List names and versions, never values."""
    with connection.blocking_client() as client:
        secrets = list(client.list_secrets())
    output.answer_listing(secrets, output_format, secrets_listing(secrets, datetime.now(UTC)))


@command(commands, "versions", examples=("torana secrets versions warehouse",))
@connected
def versions(connection: Connection, *, name: Name, output_format: Output = Format.TABLE) -> None:
    """List the versions of a secret, latest first, never values.

    Resources that open now get the current one. A pool that is open keeps the credentials it was opened with until it
    is replaced; `torana resources drain` does that at once.
    """
    with connection.blocking_client() as client:
        found = list(client.list_secret_versions(name))
    output.answer_listing(found, output_format, versions_listing(found, datetime.now(UTC)))


@command(commands, "rotate", examples=("torana secrets rotate",))
@connected
def rotate(connection: Connection, *, output_format: Output = Format.TABLE) -> None:
    """Wrap every tenant's key with the primary key of the server's keyring.

    Do this after a new key was put first in the keyring; when it is done, the old one can be taken out. No secret is
    encrypted again, nothing stops meanwhile, and interrupted it goes on when it is called again.

    This changes no credentials. To give a secret a new value use `torana secrets put NAME`.
    """
    with connection.blocking_client() as client:
        done = client.rotate_keys()
    keys = plural(done.rewrapped, "tenant key")
    said = f"{keys} wrapped again; all are under {done.primary_key_id} now"
    if not done.rewrapped:
        said = f"nothing to do: all tenant keys are under {done.primary_key_id} already"
    output.answer(done, output_format, lambda console: console.print(said))


@command(commands, "delete", examples=("torana secrets delete warehouse", "torana secrets delete warehouse --yes"))
@connected
def delete(
    connection: Connection,
    *,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Destroy a secret with all its versions."""
    if not yes:
        confirm(f"Destroy {name} with all its versions?", "nothing was deleted")
    with connection.blocking_client() as client:
        client.delete_secret(name)
    output.say(f"deleted {name}")


def secret_value(source: str, file: Path | None, fields: list[str]) -> dict[str, object]:
    """From exactly one of standard input, a file and prompts. Raises UsageError, never with the value in it."""
    if source not in ("", "-"):
        raise UsageError("a value is never an argument; use `-` for standard input, --file, or --field for prompts")
    if sum((source == "-", file is not None, bool(fields))) > 1:
        raise UsageError("give one of `-`, --file and --field")
    given = source if file is None else str(file)
    if given:
        return _nonempty(arguments.json_object(text_of(given), source_name(given)))
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask at; use `-` for standard input or --file")
    return _nonempty(_asked(fields) if fields else _asked_openly())


def _asked(fields: list[str]) -> dict[str, object]:
    for field in fields:
        if "=" in field:
            raise UsageError(f"--field takes a name only, as in --field {field.partition('=')[0]}; the value is asked")
    return {field: typer.prompt(field, hide_input=True, err=True) for field in fields}


def _asked_openly() -> dict[str, object]:
    value: dict[str, object] = {}
    while field := typer.prompt("Field (empty to finish)", default="", show_default=False, err=True).strip():
        value[field] = typer.prompt(f"Value of {field} (hidden)", hide_input=True, err=True)
    return value


def _nonempty(value: Mapping[str, object]) -> dict[str, object]:
    if not value:
        raise UsageError("the secret has no fields; nothing was stored")
    return dict(value)


def secrets_listing(secrets: Sequence[Secret], now: datetime) -> Listing:
    return Listing(
        heads=(Head("name", gives_way=True), Head("version", right=True), Head("updated", right=True)),
        rows=[
            (text_cell(secret.name), text_cell(secret.version), time_cell(secret.update_time, now))
            for secret in secrets
        ],
        empty="the vault is empty; `torana secrets put NAME` stores a secret",
    )


def versions_listing(versions: Sequence[SecretVersion], now: datetime) -> Listing:
    """`expires` is a time and not an age: it lies ahead."""
    return Listing(
        heads=(Head("version", right=True), Head("state"), Head("stored", right=True), Head("expires")),
        rows=[
            (
                text_cell(one.version),
                state_cell(one.state),
                time_cell(one.create_time, now),
                text_cell(one.expire_time.isoformat(timespec="seconds") if one.expire_time else ""),
            )
            for one in versions
        ],
    )
