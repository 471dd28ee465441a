"""`torana serve`: a server with the workflows of a folder."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from pydantic import ValidationError

from torana_server.cli import output
from torana_server.cli.embedded import SUFFIXES, read_workflow
from torana_server.cli.exits import Exit, UsageError, errors_reported
from torana_server.cli.version import VERSION
from torana_server.core.errors import InvalidWorkflowError
from torana_server.gateway import Gateway
from torana_server.settings import Settings
from torana_server.telemetry import configure_logging

SECURITY = "Security"
LOGS = "Logs"


def serve(
    address: Annotated[str | None, typer.Option(help="host:port or unix:PATH to listen on. [127.0.0.1:7233]")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder of journal and vault. [./torana-data]")
    ] = None,
    journal: Annotated[str | None, typer.Option(help="sqlite, or memory, which survives nothing. [sqlite]")] = None,
    workflows: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Register the YAML files of this folder.")
    ] = None,
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
        bool | None,
        typer.Option("--allow-insecure", rich_help_panel=SECURITY, help="Plain text beyond this machine."),
    ] = None,
    production: Annotated[
        bool | None,
        typer.Option("--production", rich_help_panel=SECURITY, help="Refuse to start on a generated vault key."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(rich_help_panel=LOGS, help="DEBUG, INFO, WARNING or ERROR.")] = None,
    log_format: Annotated[str | None, typer.Option(rich_help_panel=LOGS, help="auto, json or console.")] = None,
) -> None:
    """Serve workflows over gRPC until SIGINT or SIGTERM, then drain. A second signal stops at once.

    Every setting is also a variable (TORANA_ADDRESS, TORANA_DATA_DIR …); options win over variables.

    Exit codes: 0 stopped as asked, 1 could not start or go on, 2 unusable settings or workflows, 130 stopped at once.
    """
    given = {
        "address": address,
        "data_dir": data_dir,
        "journal": journal,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
        "allow_insecure": allow_insecure,
        "production": production,
        "log_level": log_level.upper() if log_level else None,
        "log_format": log_format,
    }
    with errors_reported():
        settings = server_settings({name: value for name, value in given.items() if value is not None})
        configure_logging(settings.log_level, settings.log_format)
        gateway = Gateway(settings=settings)
        register_folder(gateway, workflows)
        _serve(gateway)


def server_settings(given: Mapping[str, Any]) -> Settings:
    """From options above variables. Raises UsageError with every setting that is wrong, never with its value."""
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = "\n".join(_problem(given, one) for one in error.errors(include_input=False, include_url=False))
        raise UsageError(f"the settings cannot be used\n{problems}") from None


def register_folder(gateway: Gateway, folder: Path | None) -> None:
    """Raises UsageError with the file, and every problem in it."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES) if folder else []
    for path in paths:
        definition = read_workflow(path)
        if definition.name in gateway.workflows:
            raise UsageError(f"{path}: another file of this folder already names its workflow {definition.name!r}")
        try:
            gateway.register_workflow(definition.name, definition)
        except InvalidWorkflowError as error:
            raise UsageError(f"{path}: {error}") from None
    if folder and not paths:
        output.note(f"{folder} holds no workflow: no file there ends in {' or '.join(SUFFIXES)}")


def _serve(gateway: Gateway) -> None:
    try:
        uvloop.run(gateway.serve_until_stopped(started=lambda port: _greet_soon(gateway, port)))
    except OSError as error:
        output.report(f"the server cannot start: {error.strerror or error}")
        raise typer.Exit(Exit.FAILED) from None
    output.note("stopped")


def _greet_soon(gateway: Gateway, port: int) -> None:
    """When the server has also begun to listen for signals: who reads the greeting may send one at once."""
    asyncio.get_running_loop().call_soon(_greet, gateway, port)


def _greet(gateway: Gateway, port: int) -> None:
    for line in greeting(gateway.settings, port, sorted(gateway.workflows)):
        output.write_line(line)


def greeting(settings: Settings, port: int, workflows: list[str]) -> list[str]:
    """What an operator wants to see first. `port` is what was really taken."""
    unix = settings.address.startswith("unix:")
    host = settings.address.rpartition(":")[0]
    address = settings.address if unix else f"{host}:{port}"
    kept = "in memory: nothing survives a restart" if settings.journal == "memory" else f"SQLite in {settings.data_dir}"
    return [
        f"Torana {VERSION} listens on {address} ({_reach(host, unix, settings.tls_cert is not None)})",
        f"  journal    {kept}",
        f"  workflows  {', '.join(workflows) or 'none; give a folder of YAML files with --workflows'}",
    ]


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


def _problem(given: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    where = f"--{name.replace('_', '-')}" if name in given else f"TORANA_{name.upper()}"
    return f"{where}: {error['msg']}"
