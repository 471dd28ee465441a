"""A server inside the command, for one workflow file: loopback, a port of its own, gone at the end."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from torana_server.cli.exits import UsageError
from torana_server.settings import Settings
from torana_server.telemetry import configure_logging
from torana_server.workflow import Definition
from torana_server.workflow_files import SUFFIXES, read_workflow_file


def is_workflow_file(name: str) -> bool:
    """No workflow's name holds a dot."""
    return name.endswith(SUFFIXES)


def read_workflow(path: Path) -> Definition:
    """Raises UsageError, with every problem of the definition and where it is."""
    file = read_workflow_file(path)
    if file.definition is None:
        raise UsageError("\n".join([f"{path} cannot be run", *map(str, file.problems)]))
    return file.definition


@asynccontextmanager
async def embedded_server(definition: Definition, settings: Settings, data_dir: Path | None) -> AsyncIterator[str]:
    """Yields the address. Without `data_dir` journal and vault live in a temporary folder."""
    from torana_server.gateway import Gateway  # noqa: PLC0415 — takes a while, and most commands start no server

    async with contextlib.AsyncExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="torana-run-")))
        settings = embedded_settings(settings)
        configure_logging(settings.log_level, settings.log_format)
        gateway = Gateway(settings=settings, data_dir=folder)
        gateway.register_workflow(definition.name, definition)
        stack.push_async_callback(gateway.close)  # also when Ctrl-C comes while it starts: the folder goes after it
        yield f"127.0.0.1:{await gateway.serve('127.0.0.1:0')}"


def embedded_settings(settings: Settings) -> Settings:
    """Quiet unless the operator said otherwise, and gone at once: nobody else waits for it."""
    quiet = {} if "log_level" in settings.model_fields_set else {"log_level": "ERROR"}
    plain = {"tls_cert": None, "tls_key": None, "tls_client_ca": None}
    return settings.model_copy(update={"drain_grace_s": 0.0, **plain, **quiet})
