"""`torana config`: what the settings are, and where each comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from torana_server.cli import output
from torana_server.cli.exits import errors_reported
from torana_server.cli.grammar import command, group
from torana_server.cli.output import Format, Output
from torana_server.cli.view import Head, Listing, text_cell
from torana_server.settings import DEFAULT, LoadedSettings, Settings, load_settings, secret_settings

commands = group("The settings of a server.")

Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", dir_okay=False, help="Settings (TOML). [the file that TORANA_CONFIG names, or ./torana.toml]"
    ),
]


@dataclass(frozen=True, slots=True)
class Setting:
    """`value` is a JSON value; of a secret it says only whether there is one. `source` is the variable, or the file
    and its key."""

    name: str
    value: Any
    origin: str
    source: str


@command(commands, "show", examples=("torana config show", "torana config show --config torana.toml -o json"))
def show(config: Config = None, output_format: Output = Format.TABLE) -> None:
    """Show every setting, its value, and where it comes from. Of secrets: whether they are set.

    These are the settings that `torana serve` would have, started in this folder and environment, before its options.

    Exit codes: 0 shown, 2 the settings cannot be used.
    """
    with errors_reported():
        settings = list(shown(load_settings(config=config)))
        rows = [[text_cell(one.name), text_cell(_text(one.value)), _source(one)] for one in settings]
        heads = [Head("setting"), Head("value", gives_way=True), Head("source", gives_way=True)]
        output.answer_listing(settings, output_format, Listing(heads, rows))


def shown(loaded: LoadedSettings) -> Iterator[Setting]:
    values = loaded.settings.model_dump(mode="json", exclude=set(secret_settings()))
    for name in Settings.model_fields:
        origin = loaded.origin(name)
        value = values.get(name) if name in values else _whether_set(getattr(loaded.settings, name))
        yield Setting(name, value, origin.kind, "" if origin is DEFAULT else origin.name)


def _whether_set(secret: object) -> str:
    return "not set" if secret is None else "set"


def _source(setting: Setting) -> Any:
    return text_cell(setting.source or setting.origin, "" if setting.source else "dim")


def _text(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case list():
            return ",".join(map(str, value)) or "none"
        case _:
            return str(value)
