"""Workflows whose steps write a row of a table for every attempt, so that what several servers ran can be counted."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from torana_server import Gateway, StepContext, WorkflowBuilder

TABLE = """
    CREATE TABLE effects (
        id bigint GENERATED ALWAYS AS IDENTITY, execution text, step text, attempt int, key text
    )
"""
INSERT = "INSERT INTO effects (execution, step, attempt, key) VALUES ($1, $2, $3, $4)"
STEPS = ("first", "second", "third")


@dataclass(frozen=True, slots=True)
class Effect:
    execution: str
    step: str
    attempt: int
    key: str


async def act(ledger: str, ctx: StepContext) -> int:
    """The row is there before the step can complete."""
    connection = await asyncpg.connect(ledger)
    try:
        await connection.execute(INSERT, ctx.execution_id, ctx.step_name, ctx.attempt, ctx.idempotency_key)
    finally:
        await connection.close()
    return ctx.attempt


async def effects(ledger: str) -> list[Effect]:
    """In the order in which they took place."""
    connection = await asyncpg.connect(ledger)
    try:
        rows = await connection.fetch("SELECT execution, step, attempt, key FROM effects ORDER BY id")
    finally:
        await connection.close()
    return [Effect(*row) for row in rows]


def register(gateway: Gateway) -> None:
    builder = WorkflowBuilder("counted")
    for step in STEPS:
        builder.add_step(step, act)
    gateway.register_workflow("counted", builder.build())
