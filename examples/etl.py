"""From PostgreSQL to a cache: one entry a table, with its columns.

The database and the cache are wherever these variables say: PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, CACHE_PORT
and CACHE_PASSWORD. Journal and vault are kept in ./etl-data.

$ python examples/etl.py information_schema
"""

from __future__ import annotations

import asyncio
import os
import sys

from torana_server import Gateway, ResourceReference, RetryPolicy, StepContext, WorkflowBuilder, WorkflowRequest

COLUMNS = """
    SELECT table_name, column_name, data_type FROM information_schema.columns
    WHERE table_schema = $1 ORDER BY table_name, ordinal_position
"""


async def extract(schema: str, ctx: StepContext) -> dict[str, object]:
    database = await ctx.get_resource("source")
    rows = await database.fetch(COLUMNS, schema)
    await ctx.progress(1.0, f"{len(rows)} columns")
    return {"rows": [list(row) for row in rows]}


def transform(rows: list[list[str]]) -> dict[str, object]:
    """A plain `def` runs in a thread and can be tested as the function it is."""
    tables: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        tables.setdefault(table, {})[column] = kind
    return {"tables": tables}


async def load(tables: dict[str, dict[str, str]], schema: str, ctx: StepContext) -> dict[str, object]:
    """May run twice, as every step may: the same entries are written again."""
    cache = await ctx.get_resource("cache")
    for number, (table, columns) in enumerate(tables.items(), start=1):
        await cache.hset(f"{schema}.{table}", mapping=columns)
        await ctx.progress(number / len(tables), f"{number} of {len(tables)} tables")
    return {"loaded": len(tables)}


workflow = (
    WorkflowBuilder("etl", "What columns the tables of a schema have", retry=RetryPolicy(max_attempts=3))
    .add_step("extract", extract, required_resources=["source"])
    .add_step("transform", transform)
    .add_step("load", load, required_resources=["cache"])
    .add_connection("extract", "rows", "transform", "rows")
    .add_connection("transform", "tables", "load", "tables")
    .build()
)


async def main(schema: str) -> None:
    async with Gateway(data_dir="etl-data") as gateway:
        gateway.register_workflow("etl", workflow)
        login = {"user": os.environ["PGUSER"], "password": os.environ["PGPASSWORD"]}
        await gateway.secret_manager.store_secret("source_login", login)
        await gateway.secret_manager.store_secret("cache_login", {"password": os.environ["CACHE_PASSWORD"]})
        place = {"host": os.environ["PGHOST"], "port": int(os.environ["PGPORT"]), "database": os.environ["PGDATABASE"]}
        source = ResourceReference(type="database", config=place, credentials_ref="source_login")
        port = int(os.environ["CACHE_PORT"])
        cache = ResourceReference(type="cache", config={"port": port}, credentials_ref="cache_login")
        request = WorkflowRequest(parameters={"schema": schema}, resources={"source": source, "cache": cache})
        response = await gateway.execute_workflow("etl", request)
        print(response.status, response.result["load"] if response.error is None else response.error.message)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
