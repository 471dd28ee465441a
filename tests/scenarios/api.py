"""A real HTTP server on loopback that a test tells what to answer, and that remembers what it was asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from scenarios.running import Reference


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived. `body` is its JSON, or None."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


Answer = Callable[[Asked], Awaitable[web.Response]]


class Api:
    """Answers 404 to what no test told it of."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[str, Answer] = {}
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self.server = TestServer(app)

    def on(self, path: str, answer: Answer) -> None:
        """`answer` is called for every request to `path` and below it, unless a longer path fits too."""
        self._answers[path] = answer

    def says(self, path: str, body: Any, status: int = 200) -> None:
        """The same JSON every time."""

        async def answer(_: Asked) -> web.Response:
            return web.json_response(body, status=status)

        self.on(path, answer)

    def asked_for(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    def reference(self, credentials_ref: str = "", **config: Any) -> Reference:
        address = f"http://127.0.0.1:{self.server.port}"
        return {
            "type": "http_client",
            "config": {"base_url": address, "timeout": 10, **config},
            "credentials_ref": credentials_ref,
        }

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        asked = Asked(request.method, request.path, dict(request.headers), body)
        self.asked.append(asked)
        fitting = [path for path in self._answers if f"{asked.path}/".startswith(f"{path.rstrip('/')}/")]
        if not fitting:
            raise web.HTTPNotFound
        return await self._answers[max(fitting, key=len)](asked)
