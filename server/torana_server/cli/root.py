"""The command `torana`: one file a command."""

from __future__ import annotations

from typing import Annotated

import typer

from torana_server.cli import demo, health, run, secrets, serve, watch
from torana_server.cli.version import VERSION

app = typer.Typer(
    name="torana",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Durable workflows over named, pooled resources, streamed over gRPC.",
    epilog="Start here: `torana demo` shows it at work, `torana run FILE.yaml` runs a workflow of yours.",
)
app.command()(serve.serve)
app.command()(run.run)
app.command()(watch.watch)
app.add_typer(secrets.commands, name="secrets")
app.command()(health.health)
app.command()(demo.demo)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"torana {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """`version` is dealt with by its callback."""


def main() -> None:
    app()
