"""A saga: an order that cannot be finished is undone, step by step, on the error routes.

The database is wherever PGHOST, PGPORT, PGDATABASE, PGUSER and PGPASSWORD say. The example makes its own two tables
there. Journal and vault are kept in ./saga-data.

$ python examples/saga.py order-1 lamp Oslo
$ python examples/saga.py order-2 lamp Atlantis
"""

from __future__ import annotations

import asyncio
import os
import sys

from torana_server import Gateway, ResourceReference, RetryPolicy, StepContext, WorkflowBuilder, WorkflowRequest

TABLES = """
    CREATE TABLE IF NOT EXISTS stock (item text PRIMARY KEY, free int NOT NULL CHECK (free >= 0));
    CREATE TABLE IF NOT EXISTS ledger (entry text PRIMARY KEY, amount int NOT NULL);
    INSERT INTO stock VALUES ('lamp', 5) ON CONFLICT DO NOTHING;
"""
PRICE = 30


async def once(ctx: StepContext, change: str, item: str, amount: int) -> None:
    """Makes the change with an entry of it, both or none. A second attempt has the same key, and does nothing."""
    shop = await ctx.get_resource("shop")
    async with shop.transaction() as connection:
        new = "INSERT INTO ledger VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING entry"
        if await connection.fetchval(new, ctx.idempotency_key, amount) is not None and change:
            await connection.execute(change, item)


async def prepare(ctx: StepContext) -> None:
    shop = await ctx.get_resource("shop")
    await shop.execute(TABLES)


async def reserve(item: str, ctx: StepContext) -> dict[str, object]:
    await once(ctx, "UPDATE stock SET free = free - 1 WHERE item = $1", item, 0)
    return {"reserved": item}


async def charge(item: str, ctx: StepContext) -> dict[str, object]:
    await once(ctx, "", item, PRICE)
    return {"charged": PRICE}


async def ship(item: str, city: str, ctx: StepContext) -> dict[str, object]:
    if city == "Atlantis":
        raise LookupError(f"nobody delivers to {city}")
    return {"shipped": city}


async def refund(item: str, charged: int, ctx: StepContext) -> dict[str, object]:
    """`charged` is what the step before the one that failed handed on; `message` would be the error's."""
    await once(ctx, "", item, -charged)
    return {"refunded": charged}


async def release(reserved: str, ctx: StepContext) -> dict[str, object]:
    await once(ctx, "UPDATE stock SET free = free + 1 WHERE item = $1", reserved, 0)
    return {"released": reserved}


workflow = (
    WorkflowBuilder("order", "Reserves, charges and ships, or undoes what was done", retry=RetryPolicy(max_attempts=2))
    .add_step("prepare", prepare)
    .add_step("reserve", reserve)
    .add_step("charge", charge)
    .add_step("ship", ship)
    .add_step("refund", refund)
    .add_step("release", release)
    .add_connection("prepare", "reserve")
    .add_connection("reserve", "charge")
    .add_connection("charge", "ship")
    .add_connection("charge", "release", route="error")
    .add_connection("ship", "refund", route="error")
    .add_connection("refund", "release")
    .build()
)


async def main(order: str, item: str, city: str) -> None:
    async with Gateway(data_dir="saga-data") as gateway:
        gateway.register_workflow("order", workflow, required_resources=["shop"])
        login = {"user": os.environ["PGUSER"], "password": os.environ["PGPASSWORD"]}
        await gateway.secret_manager.store_secret("shop_login", login)
        place = {"host": os.environ["PGHOST"], "port": int(os.environ["PGPORT"]), "database": os.environ["PGDATABASE"]}
        shop = ResourceReference(type="database", config=place, credentials_ref="shop_login")
        request = WorkflowRequest(
            parameters={"item": item, "city": city}, resources={"shop": shop}, idempotency_key=order
        )
        response = await gateway.execute_workflow("order", request)
        print(response.status, {name: output for name, output in response.result.items() if output is not None})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
