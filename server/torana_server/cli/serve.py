"""`torana serve`: a server with the workflows of a folder, or with a gateway made in Python."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torana_server.cli import output
from torana_server.cli.config import Config
from torana_server.cli.exits import Exit, UsageError, errors_reported
from torana_server.cli.version import VERSION
from torana_server.cli.workers import serve_with_workers
from torana_server.settings import LoadedSettings, Settings, load_settings
from torana_server.telemetry import configure_logging
from torana_server.workflow_files import SUFFIXES, WorkflowFolder

if TYPE_CHECKING:
    from torana_server.gateway import Gateway

SECURITY = "Security"
LOGS = "Logs"


def serve(
    gateway: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:GATEWAY",
            help="A gateway made in Python: shop:gateway, shop/app.py:gateway, or a function that returns one.",
        ),
    ] = "",
    workflows: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Serve the YAML files of this folder, as they change.")
    ] = None,
    no_reload: Annotated[
        bool, typer.Option("--no-reload", help="Do not follow changes there. SIGHUP reloads.")
    ] = False,
    address: Annotated[str | None, typer.Option(help="host:port or unix:PATH to listen on. [127.0.0.1:7233]")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder of journal and vault. [./torana-data]")
    ] = None,
    journal: Annotated[str | None, typer.Option(help="sqlite, memory or postgresql://USER@HOST/DB. [sqlite]")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that share the port and a PostgreSQL journal. [1]")
    ] = None,
    config: Config = None,
    tls_cert: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, rich_help_panel=SECURITY, help="Certificate (PEM).")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, rich_help_panel=SECURITY, help="Its private key (PEM).")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, rich_help_panel=SECURITY, help="CA that clients' certificates must come from."
        ),
    ] = None,
    allow_insecure: Annotated[
        bool, typer.Option("--allow-insecure", rich_help_panel=SECURITY, help="Plain text beyond this machine.")
    ] = False,
    production: Annotated[
        bool, typer.Option("--production", rich_help_panel=SECURITY, help="Refuse to start on a generated vault key.")
    ] = False,
    log_level: Annotated[str | None, typer.Option(rich_help_panel=LOGS, help="DEBUG, INFO, WARNING or ERROR.")] = None,
    log_format: Annotated[str | None, typer.Option(rich_help_panel=LOGS, help="auto, json or console.")] = None,
) -> None:
    """Serve workflows over gRPC until SIGINT or SIGTERM, then drain. A second signal stops at once.

    Every setting is also a line of a TOML file and a variable (TORANA_ADDRESS, TORANA_DATA_DIR …): variables win over
    the file, options over both. `torana config show` tells what each is and where it comes from.

    Exit codes: 0 stopped as asked, 1 could not start or go on, 2 unusable settings or workflows, 130 stopped at once.
    """
    given: dict[str, Any] = {
        "workflows_dir": workflows,
        "workflows_reload": False if no_reload else None,
        "address": address,
        "data_dir": data_dir,
        "journal": journal,
        "workers": workers,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
        "allow_insecure": allow_insecure or None,
        "production": production or None,
        "log_level": log_level,
        "log_format": log_format,
    }
    with errors_reported():
        _start(gateway, load_settings({name: value for name, value in given.items() if value is not None}, config))


def _start(target: str, loaded: LoadedSettings) -> None:
    if loaded.settings.workers == 1:
        _serve(target, loaded)
    else:
        _serve_with_workers(target, loaded.settings)


def _serve_with_workers(target: str, settings: Settings) -> None:
    if not (target or settings.on_postgresql):
        raise UsageError("several workers need a journal that they share: give --journal postgresql://USER@HOST/DB")
    try:
        code = serve_with_workers(settings, sys.argv[1:])
    except OSError as error:
        output.report(f"the workers cannot start: {error.strerror or error}")
        raise typer.Exit(Exit.FAILED) from None
    raise typer.Exit(code)


def _serve(target: str, loaded: LoadedSettings) -> None:
    import uvloop  # noqa: PLC0415 — only a server needs it

    configure_logging(loaded.settings.log_level, loaded.settings.log_format)
    gateway = _gateway(target, loaded)
    folder = workflow_folder(gateway, loaded.settings.workflows_dir)
    try:
        uvloop.run(_served(gateway, folder, loaded))
    except OSError as error:
        output.report(f"the server cannot start: {error.strerror or error}")
        raise typer.Exit(Exit.FAILED) from None
    output.note("stopped")


def _gateway(target: str, loaded: LoadedSettings) -> Gateway:
    """The one that is named, or one of the settings alone."""
    from torana_server.cli.modules import gateway_named  # noqa: PLC0415 — needs the next one
    from torana_server.gateway import Gateway  # noqa: PLC0415 — takes a while, and most commands start no server

    return gateway_named(target, loaded) if target else Gateway(settings=loaded.settings)


def workflow_folder(gateway: Gateway, path: Path | None) -> WorkflowFolder | None:
    """Loaded. Raises InvalidWorkflowError with the problems of every file."""
    if path is None:
        return None
    folder = WorkflowFolder(path, gateway)
    if not folder.load():
        output.note(f"{path} holds no workflow: no file there ends in {' or '.join(SUFFIXES)}")
    return folder


async def _served(gateway: Gateway, folder: WorkflowFolder | None, loaded: LoadedSettings) -> None:
    address = loaded.settings.address if "address" in loaded.origins else gateway.settings.address
    async with contextlib.AsyncExitStack() as stack:
        if folder is not None:
            await stack.enter_async_context(folder.followed(by_itself=loaded.settings.workflows_reload))
        await gateway.serve_until_stopped(address, started=lambda port: _greet_soon(gateway, address, port))


def _greet_soon(gateway: Gateway, address: str, port: int) -> None:
    """When the server has also begun to listen for signals: who reads the greeting may send one at once."""
    asyncio.get_running_loop().call_soon(_greet, gateway, address, port)


def _greet(gateway: Gateway, address: str, port: int) -> None:
    for line in greeting(gateway.settings, address, port, sorted(gateway.workflows)):
        output.write_line(line)


def greeting(settings: Settings, address: str, port: int, workflows: list[str]) -> list[str]:
    """What an operator wants to see first. `port` is what was really taken."""
    unix = address.startswith("unix:")
    host = address.rpartition(":")[0]
    taken = address if unix else f"{host}:{port}"
    return [
        f"Torana {VERSION} listens on {taken} ({_reach(host, unix, settings.tls_cert is not None)})",
        f"  journal    {_kept(settings)}",
        f"  workflows  {', '.join(workflows) or 'none; give a folder of YAML files with --workflows'}",
    ]


def _kept(settings: Settings) -> str:
    if settings.on_postgresql:
        return f"PostgreSQL at {settings.journal}, schema {settings.journal_schema}"
    return "in memory: nothing survives a restart" if settings.journal == "memory" else f"SQLite in {settings.data_dir}"


def _reach(host: str, unix: bool, has_tls: bool) -> str:
    kind = "TLS" if has_tls else "plain text"
    return f"this machine only, {kind}" if unix or _is_loopback(host) else f"beyond this machine, {kind}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
