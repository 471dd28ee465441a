"""A real HTTP server on this machine, with the client that a step gets for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from torana_server.core.clock import SystemClock
from torana_server.resources import Borrower
from torana_server.resources.types.http_client import HttpClient, HttpClientConfig, HttpClientType, HttpPool
from torana_server.testing.rules import Rule, Rules, answer_of

_TIMEOUT_S: Final = 30.0
_NO_JSON: Final = object()


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request that arrived. `path` is without the query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer in full. `json`, where it is given, is the body. `after_s` is how long the server takes; with `drop`
    it then closes the connection without a word."""

    status: int = 200
    json: Any = _NO_JSON
    body: bytes | str = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    drop: bool = False


class FakeHttpApi:
    """An HTTP API that runs where the test runs, and remembers every request.

    `answers(method, path, answer)` tells it what to say. `path` may have parts in braces: `/users/{id}`. `answer` is
    JSON (a dict, list, number …), a text, a `Reply`, an exception that becomes a status 500, or a function of the
    `HttpRequest` (and of the parts in braces, by name) that returns any of these; it may be async. The newest answer
    wins; `times` limits how often it is given. Anything else is a 404 that lists what the API knows.

    Bound to a gateway it starts by itself. Alone: `async with FakeHttpApi() as api`, then `api.base_url`.
    """

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []
        self.unknown: list[HttpRequest] = []
        """Requests that nothing was registered for."""
        self._rules: Rules[HttpRequest] = Rules()
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._pools: list[HttpPool] = []

    def answers(self, method: str, path: str, answer: Any, *, times: int | None = None) -> FakeHttpApi:
        """Returns itself, so that calls can be chained."""
        route = _Route(method.upper(), path)
        self._rules.add(Rule(str(route), route.fits, _Answer(route, answer), times))
        return self

    def fails(self, method: str, path: str, status: int = 503, *, times: int | None = 1) -> FakeHttpApi:
        """The path answers with this status, and as before then."""
        return self.answers(method, path, Reply(status=status, json={"error": status}), times=times)

    def asked(self, method: str, path: str) -> list[HttpRequest]:
        """The requests for a path, in order."""
        route = _Route(method.upper(), path)
        return [request for request in self.requests if route.fits(request)]

    @property
    def base_url(self) -> str:
        """Raises RuntimeError before the start: the port is chosen then."""
        if not self._port:
            raise RuntimeError("the fake API has no address before it has started: `async with FakeHttpApi() as api`")
        return f"http://127.0.0.1:{self._port}"

    async def create(self) -> HttpClient:
        """Starts the server if need be; a client with its `base_url`, as steps get it from an `http_client`."""
        await self.start()
        http_client = HttpClientType()
        pool = await http_client.open(HttpClientConfig(base_url=self.base_url, timeout=_TIMEOUT_S), {})
        self._pools.append(pool)
        return http_client.lend(pool, Borrower("fake", "local", "", "", 1, SystemClock()))

    async def start(self) -> None:
        """Idempotent."""
        if self._runner is None:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._handle)
            self._runner = web.AppRunner(app, shutdown_timeout=0, access_log=None)
            await self._runner.setup()
            site = web.TCPSite(self._runner, "127.0.0.1", 0)
            await site.start()
            self._port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Ends the server and its clients. Idempotent; it may start again, with another port."""
        pools, self._pools = self._pools, []
        for pool in pools:
            await pool.session.close()
        runner, self._runner, self._port = self._runner, None, 0
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> FakeHttpApi:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        arrived = HttpRequest(
            request.method, request.path, dict(request.query), dict(request.headers), await request.read()
        )
        self.requests.append(arrived)
        rule = self._rules.take(arrived)
        if rule is None:
            self.unknown.append(arrived)
            known = f"the fake API knows nothing about {arrived}; it knows:\n{self._rules.known()}"
            return web.Response(status=404, text=known)
        try:
            reply = _reply(await answer_of(rule, arrived))
        except Exception as error:  # noqa: BLE001 — a server's boundary: what a handler raises is a status 500
            reply = Reply(status=500, body=f"{type(error).__name__}: {error}")
        return await _send(reply, request)


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    path: str

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"a path begins with '/', unlike {self.path!r}")

    def fits(self, request: HttpRequest) -> bool:
        return request.method == self.method and self.parts(request.path) is not None

    def parts(self, path: str) -> dict[str, str] | None:
        """What stands for the parts in braces; None when the path is another."""
        wanted, given = self.path.split("/"), path.split("/")
        if len(wanted) != len(given):
            return None
        named = [(want, part) for want, part in zip(wanted, given, strict=True) if want != part]
        if any(not (want.startswith("{") and want.endswith("}")) for want, _ in named):
            return None
        return {want[1:-1]: part for want, part in named}

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class _Answer:
    """Calls a function with what its route's braces stand for."""

    def __init__(self, route: _Route, answer: Any) -> None:
        self._route = route
        self._answer = answer

    def __call__(self, request: HttpRequest) -> Any:
        if callable(self._answer) and not isinstance(self._answer, type):
            return self._answer(request, **(self._route.parts(request.path) or {}))
        return self._answer


def _reply(answer: Any) -> Reply:
    if isinstance(answer, Reply):
        return answer
    return Reply(body=answer) if isinstance(answer, str | bytes) else Reply(json=answer)


async def _send(reply: Reply, request: web.Request) -> web.StreamResponse:
    if reply.after_s:
        await asyncio.sleep(reply.after_s)
    if reply.drop:
        assert request.transport is not None, "the client still waits"
        request.transport.close()
    if reply.json is not _NO_JSON:
        return web.json_response(reply.json, status=reply.status, headers=reply.headers)
    body = reply.body.encode() if isinstance(reply.body, str) else reply.body
    return web.Response(status=reply.status, body=body, headers=reply.headers)
