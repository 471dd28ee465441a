"""What the demo does once everything runs: store credentials, run the workflow over a connection that breaks, look."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import redis

import torana
from torana_server.cli.demo.backends import DATABASE, HOST, USER, Backend
from torana_server.cli.demo.proxy import Proxy, proxy_to
from torana_server.cli.displays import Display

CUT_AFTER = 17
"""Sequence of the event after which the connection is cut."""
LONDON = (-0.1278, 51.5074)
NEAR_KM = 60


class StoryError(Exception):
    """Something the demo shows did not hold."""


@dataclass(slots=True)
class Witness:
    """Checks by itself that the stream leaves nothing out and repeats nothing."""

    sequences: list[int] = field(default_factory=list)

    def saw(self, event: torana.Event) -> None:
        self.sequences.append(event.sequence)

    @property
    def is_complete(self) -> bool:
        return self.sequences == list(range(1, len(self.sequences) + 1))


async def store_credentials(client: torana.Client, postgres: Backend, valkey: Backend) -> list[str]:
    """The names of the secrets. Their values are in the server's vault and nowhere else from here on."""
    database = await client.put_secret("demo-database", {"user": USER, "password": postgres.password})
    cache = await client.put_secret("demo-cache", {"password": valkey.password})
    return [database.name, cache.name]


def references(postgres: Backend, valkey: Backend) -> dict[str, torana.Binding]:
    """What the request binds: places and names of secrets, no passwords."""
    return {
        "airports": torana.database(
            host=HOST, port=postgres.port, database=DATABASE, credentials_ref="demo-database", max_size=4
        ),
        "cache": torana.cache(host=HOST, port=valkey.port, credentials_ref="demo-cache", decode_responses=True),
    }


async def run_over_a_breaking_connection(
    server_port: int, resources: dict[str, torana.Binding], display: Display
) -> tuple[torana.ExecutionResult, Witness]:
    """Raises StoryError when an event is missing or came twice."""
    witness = Witness()
    async with proxy_to(server_port) as proxy, torana.Client(f"{HOST}:{proxy.port}") as client:
        stream = client.execute("airports", resources=resources)
        async with stream:
            with display:
                await _watch(stream, proxy, display, witness)
            result = await stream.result()
    display.end(replace(result, result={"summarise": result.result.get("summarise")}))
    if not witness.is_complete:
        raise StoryError(f"the events came with the numbers {witness.sequences}")
    return result, witness


async def _watch(stream: torana.ExecutionStream, proxy: Proxy, display: Display, witness: Witness) -> None:
    connections = 0
    async for event in stream:
        if connections and proxy.accepted > connections:
            display.note(f"resumed after event {witness.sequences[-1]} with event {event.sequence}: nothing missed")
            connections = 0
        witness.saw(event)
        display.show(event)
        if event.sequence == CUT_AFTER:
            connections = proxy.accepted
            proxy.cut()
            display.note(f"the connection was cut at event {CUT_AFTER}")
        await asyncio.sleep(0)  # between the events of a batch the proxy and Ctrl-C get their turn


def cache_lines(valkey: Backend) -> Iterable[str]:
    """What is in Valkey now, asked of Valkey itself."""
    options: dict[str, Any] = {"host": HOST, "port": valkey.port, "password": valkey.password}
    with redis.Redis(**options, decode_responses=True) as client:
        known: Any = client.zcard("airports:positions")
        yield f"{known:,} airports"
        near: Any = client.geosearch(
            "airports:positions",
            longitude=LONDON[0],
            latitude=LONDON[1],
            radius=NEAR_KM,
            unit="km",
            sort="ASC",
            withdist=True,
            count=5,
        )
        yield f"within {NEAR_KM} km of London: " + ", ".join(f"{iata} {km:.0f} km" for iata, km in near)
        remote: Any = client.zrange("airports:remoteness", 0, 2, desc=True, withscores=True)
        for iata, km in remote:
            airport: Any = client.hgetall(f"airport:{iata}")
            yield f"remotest: {airport['name'][:40]} ({airport['country']}), {km:,.0f} km to {airport['nearest']}"
