"""The command `torana`: one file a command, or a group of them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from torana_server.cli import (
    completion,
    config,
    demo,
    doctor,
    executions,
    health,
    resources,
    run,
    secrets,
    serve,
    server,
    watch,
    workflows,
)
from torana_server.cli.encodings import fit_encodings
from torana_server.cli.grammar import NAMES, Group, command
from torana_server.cli.version import VERSION

RUNNING = "Run workflows"
LOOKING = "Look and steer"
SERVING = "Serve"


class Root(Group):
    order = (
        *("run", "watch", "demo", "workflows", "executions", "resources", "secrets", "health", "info", "stats"),
        *("serve", "doctor", "config", "completion"),
    )


app = typer.Typer(
    name=completion.PROGRAM,
    cls=Root,
    no_args_is_help=True,
    context_settings=NAMES,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Durable workflows over named, pooled resources, streamed over gRPC.",
    epilog="torana demo              # shows it at work\ntorana run FILE.yaml     # runs a workflow of yours",
)

command(
    app,
    "run",
    panel=RUNNING,
    examples=(
        "torana run etl.yaml -p day=2026-01-15",
        "torana run etl -p day=2026-01-15 --resource db=@warehouse",
        "torana run etl --params-json day.json --quiet | jq .load",
        "torana run etl --detach",
    ),
)(run.run)
watch_examples = (
    "torana watch 019bbf52-7cd0-7191-b1f0-cfa7603d3135",
    'torana watch --filter \'workflow = "etl" AND labels.team = "a"\'',
    "torana watch --all -o json",
)
command(app, "watch", panel=RUNNING, examples=watch_examples)(watch.watch)
command(app, "demo", panel=RUNNING)(demo.demo)
app.add_typer(workflows.commands, name="workflows", rich_help_panel=LOOKING)
command(executions.commands, "watch", examples=watch_examples)(watch.watch)
app.add_typer(executions.commands, name="executions", rich_help_panel=LOOKING)
app.add_typer(resources.commands, name="resources", rich_help_panel=LOOKING)
app.add_typer(secrets.commands, name="secrets", rich_help_panel=LOOKING)
command(app, "health", panel=LOOKING, examples=("torana health", "torana health --service '' --timeout 1"))(
    health.health
)
command(app, "info", panel=LOOKING, examples=("torana info", "torana info -o yaml"))(server.info)
command(app, "stats", panel=LOOKING, examples=("torana stats", "torana stats -o json | jq .values"))(server.stats)
command(
    app,
    "serve",
    panel=SERVING,
    examples=(
        "torana serve --workflows workflows",
        "torana serve shop:gateway --config torana.toml",
        "torana serve --address 0.0.0.0:7233 --tls-cert c.pem --tls-key k.pem",
    ),
)(serve.serve)
app.add_typer(config.commands, name="config", rich_help_panel=SERVING)
command(app, "doctor", panel=SERVING, examples=("torana doctor", "torana doctor --config torana.toml -o json"))(
    doctor.doctor
)
command(
    app,
    "completion",
    panel=SERVING,
    examples=(
        "source <(torana completion bash)",
        "torana completion zsh > ~/.zfunc/_torana",
        "torana completion fish > ~/.config/fish/completions/torana.fish",
    ),
)(completion.completion)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"torana {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="TORANA_DEBUG", help="Show the traceback of a defect of the command.")
    ] = False,
) -> None:
    """`version` is dealt with by its callback."""
    this = context.command
    assert isinstance(this, Root), "the application names its class"
    this.is_debug = debug


def ready() -> Callable[[], None]:
    """The command in `sys.argv`, made and not yet begun."""
    fit_encodings(sys.stdout, sys.stderr)
    return functools.partial(typer.main.get_command(app), prog_name=completion.PROGRAM)
