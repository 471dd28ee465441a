"""What a shell may complete: names and ids that the server knows. Soon or not at all, and never an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import typer

import torana
from torana_server.cli.connection import Connection
from torana_server.cli.exits import UsageError

TIMEOUT_S = 1.0
EXECUTIONS_OFFERED = 50

Candidates = list[tuple[str, str]]
"""Each with a word on what it is."""


def workflows(context: typer.Context, incomplete: str) -> Candidates:
    return _matching(context, incomplete, _workflows)


def workflows_and_files(context: typer.Context, incomplete: str) -> Candidates:
    """Files are the shell's own to complete, when no name matches."""
    return [] if "." in incomplete or "/" in incomplete else workflows(context, incomplete)


def executions(context: typer.Context, incomplete: str) -> Candidates:
    """The latest ones."""
    return _matching(context, incomplete, _executions)


def unfinished_executions(context: typer.Context, incomplete: str) -> Candidates:
    return _matching(context, incomplete, lambda client: _executions(client, finished=False))


def secrets(context: typer.Context, incomplete: str) -> Candidates:
    return _matching(context, incomplete, lambda client: ((one.name, "") for one in client.list_secrets()))


def resources(context: typer.Context, incomplete: str) -> Candidates:
    return _matching(context, incomplete, lambda client: ((one.name, one.type) for one in client.list_resources()))


Source = Callable[[torana.BlockingClient], Iterable[tuple[str, str]]]


def _matching(context: typer.Context, incomplete: str, source: Source) -> Candidates:
    try:
        with _client(context.params) as client:
            return [(name, about) for name, about in source(client) if name.startswith(incomplete)]
    except (torana.ToranaError, UsageError, OSError):
        return []  # nobody asked for a server's name yet; the command itself will say what is wrong


@contextmanager
def _client(typed: dict[str, Any]) -> Iterator[torana.BlockingClient]:
    given = {name: typed[name] for name in Connection.__slots__ if typed.get(name)}
    with Connection(**given).blocking_client(TIMEOUT_S) as client:
        yield client


def _workflows(client: torana.BlockingClient) -> Iterator[tuple[str, str]]:
    return ((one.name, one.description) for one in client.list_workflows())


def _executions(client: torana.BlockingClient, *, finished: bool = True) -> Iterator[tuple[str, str]]:
    latest = (one for one in client.list_executions() if finished or not one.is_finished)
    return ((one.id, f"{one.workflow}, {one.state}") for one in islice(latest, EXECUTIONS_OFFERED))
