"""The airports of the world, from the package `airportsdata`, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import asyncpg

from torana_server.cli.demo.backends import DATABASE, HOST, USER, Backend

COLUMNS = ("icao", "iata", "name", "city", "country", "elevation", "lat", "lon", "tz")

TABLE = """
CREATE TABLE airports (
    icao text PRIMARY KEY, iata text NOT NULL, name text NOT NULL, city text NOT NULL, country text NOT NULL,
    elevation float8, lat float8 NOT NULL, lon float8 NOT NULL, tz text NOT NULL
)
"""


async def load_airports(postgres: Backend) -> int:
    """How many there are."""
    from airportsdata import load  # noqa: PLC0415 — in the extra `demo`

    airports: Iterable[Mapping[str, Any]] = load("ICAO").values()
    rows = [tuple(airport[column] for column in COLUMNS) for airport in airports]
    connection: Any = await asyncpg.connect(
        host=HOST, port=postgres.port, user=USER, password=postgres.password, database=DATABASE
    )
    try:
        await connection.execute(TABLE)
        await connection.copy_records_to_table("airports", records=rows, columns=COLUMNS)
    finally:
        await connection.close()
    return len(rows)
