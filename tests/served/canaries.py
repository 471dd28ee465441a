"""Workflows that use credentials well, and workflows whose errors and logs are full of them."""

from __future__ import annotations

import base64
import json
from typing import Any, NoReturn
from urllib.parse import quote

from torana_server import Gateway, StepContext, WorkflowBuilder

OWN_HEADERS = ("X-Api-Key", "X-Team")


class SpilledError(Exception):
    """Raised with credentials in its message, in every way in which drivers and their users write them."""


async def resource(ctx: StepContext, name: str) -> Any:
    return await ctx.get_resource(name)


async def login_of(ctx: StepContext, kind: str) -> list[str]:
    """What a step that looks for them finds of the credentials in its resource."""
    opened = await resource(ctx, "thing")
    if kind == "database":
        async with opened.acquire() as connection:
            login = connection._con._params
            return [login.user, login.password()]
    if kind == "cache":
        return list(opened.connection_pool.connection_kwargs["credential_provider"].get_credentials())
    async with opened.get("/echo") as response:
        return [value for name, value in (await response.json()).items() if name in ("Authorization", *OWN_HEADERS)]


def spill(ctx: StepContext, texts: list[str]) -> NoReturn:
    written = [
        *texts,
        *(repr(text) for text in texts),
        *(json.dumps(text) for text in texts),
        *(quote(text, safe="") for text in texts),
        *(text.encode().hex() for text in texts),
        *(base64.b64encode(bytes(shift) + text.encode()).decode() for text in texts for shift in range(3)),
    ]
    for text in written:
        ctx.logger.info("trying %s", text)
    try:
        raise ValueError(f"refused: {texts}")
    except ValueError as error:
        raise SpilledError(f"no login with {' or '.join(written)}") from error


async def use_well(kind: str, ctx: StepContext) -> str:
    opened = await resource(ctx, "thing")
    match kind:
        case "database":
            await opened.fetchval("SELECT 1")
        case "cache":
            await opened.set("used", "well")
        case _:
            async with opened.get("/used") as response:
                response.raise_for_status()
    ctx.logger.info("used %r well", opened)
    return "used well"


async def use_badly(kind: str, ctx: StepContext) -> None:
    spill(ctx, await login_of(ctx, kind))


async def be_refused(kind: str, ctx: StepContext) -> None:
    """Errors that the drivers raise, with credentials that they were given in a statement or a header."""
    opened = await resource(ctx, "thing")
    user, password, *_ = (await login_of(ctx, kind))[-2:] * 2
    match kind:
        case "database":
            await opened.fetchval("SELECT $1::text::int", f"postgresql://{quote(user)}:{quote(password)}@h/{password}")
        case "cache":
            await opened.execute_command("NO_SUCH_COMMAND", password)
        case _:
            async with opened.get(f"/refused?token={quote(password)}", headers={"X-Again": password}) as response:
                response.raise_for_status()


async def control(text: str, ctx: StepContext) -> None:
    """Says something that is no secret wherever the others spill."""
    spill(ctx, [text])


async def hand_on(kind: str, ctx: StepContext) -> list[object]:
    """Logins as a step would log them beside a line, in keys and in values."""
    texts = await login_of(ctx, kind)
    ctx.logger.debug("found", extra={"logins": texts, **{f"of {text}": {"nested": [text]} for text in texts}})
    return []


def register(gateway: Gateway) -> None:
    """In debug mode, so that inputs and outputs are looked through as well."""
    for function in (use_well, use_badly, be_refused, hand_on):
        workflow = WorkflowBuilder(function.__name__).add_step("use", function, required_resources=["thing"]).build()
        gateway.register_workflow(workflow.definition.name, workflow, metadata={"debug": True})
    control_flow = WorkflowBuilder("control").add_step("use", control).build()
    gateway.register_workflow("control", control_flow, metadata={"debug": True})
