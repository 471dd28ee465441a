"""Workflows as platform teams write them: a pipeline into a cache, routes, many steps at once, values of all types."""

from __future__ import annotations

import asyncio
from typing import Any

from torana_server import Gateway, StepContext, Workflow, WorkflowBuilder

BRANCHES = 40

EXTRACT = """
people = await get_resource("source_db")
rows = await people.fetch(
    "SELECT id, name, email, balance, created_at FROM users WHERE created_at > CURRENT_DATE - $1::int ORDER BY id", days
)
return {"users": rows, "count": len(rows)}
"""
TRANSFORM = """
def profile(row):
    return {
        "id": row["id"],
        "display_name": row["name"].title(),
        "email_domain": row["email"].rpartition("@")[2],
        "balance": row["balance"],
        "days_active": (today - row["created_at"]).days,
    }

today = datetime.now(timezone.utc)
profiles = []
for done, row in enumerate(users):
    await progress(done / len(users), row["name"])
    profiles.append(profile(row))
return {"transformed_users": profiles}
"""
LOAD = """
cache = await get_resource("cache")
for person in transformed_users:
    text = json.dumps({**person, "balance": str(person["balance"])})
    await cache.set(f"user:{person['id']}:profile", text, ex=3600)

domains = sorted({person["email_domain"] for person in transformed_users})
summary = {"total_users": len(transformed_users), "domains": domains, "updated_at": time.time()}
await cache.set("users:summary", json.dumps(summary), ex=3600)
return {"loaded": len(transformed_users), "cache_keys": len(transformed_users) + 1}
"""


def user_etl() -> Workflow:
    return (
        WorkflowBuilder("user_etl")
        .add_async_code("extract", EXTRACT, required_resources=["source_db"])
        .add_async_code("transform", TRANSFORM)
        .add_async_code("load", LOAD, required_resources=["cache"])
        .add_connection("extract", "users", "transform", "users")
        .add_connection("transform", "transformed_users", "load", "transformed_users")
        .build()
    )


async def meet(ctx: StepContext) -> int:
    """Returns once all branches have arrived, which they can only if they run at the same time."""
    context: Any = ctx.workflow_context
    arrived = context.__dict__.setdefault("arrived", set())
    everybody = context.__dict__.setdefault("everybody", asyncio.Event())
    arrived.add(ctx.step_name)
    if len(arrived) == BRANCHES:
        everybody.set()
    await everybody.wait()
    return len(arrived)


async def count_all(ctx: StepContext) -> int:
    return len(ctx.inputs)


def fan_out() -> Workflow:
    builder = WorkflowBuilder("fan_out")
    for number in range(BRANCHES):
        builder.add_step(f"branch_{number}", meet)
    builder.add_step("join", count_all)
    for number in range(BRANCHES):
        builder.add_connection(f"branch_{number}", "result", "join", f"input_{number}")
    return builder.build()


def routed() -> Workflow:
    return (
        WorkflowBuilder("routed")
        .add_node("switch", "sort", {"input": "order", "field": "tier", "cases": {"fast": ["gold"]}, "default": "slow"})
        .add_async_code("express", "return order['id']")
        .add_async_code("standard", "return -order['id']")
        .add_async_code("report", "return {'express': locals().get('e'), 'standard': locals().get('s')}")
        .add_connection("sort", "result", "express", "order", route="fast")
        .add_connection("sort", "result", "standard", "order", route="slow")
        .add_connection("express", "result", "report", "e")
        .add_connection("standard", "result", "report", "s")
        .build()
    )


def caught() -> Workflow:
    return (
        WorkflowBuilder("caught")
        .add_async_code("charge", "raise ValueError(f'no charge of {amount}')")
        .add_async_code("ship", "return 'shipped'")
        .add_async_code("apologise", "return {'type': error['type'], 'message': error['message']}")
        .add_connection("charge", "ship")
        .add_connection("charge", "result", "apologise", "error", route="error")
        .build()
    )


async def echo(value: object, ctx: StepContext) -> object:
    await ctx.emit("echo", value)
    return value


def typed() -> Workflow:
    """The value passes through two steps, a checkpoint apart from nothing but the journal."""
    return (
        WorkflowBuilder("typed")
        .add_step("first", echo)
        .add_step("second", echo)
        .add_connection("first", "result", "second", "value")
        .build()
    )


def register(gateway: Gateway) -> None:
    for workflow in (user_etl(), fan_out(), routed(), caught(), typed()):
        gateway.register_workflow(workflow.definition.name, workflow)
