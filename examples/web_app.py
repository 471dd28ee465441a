"""Torana inside an aiohttp application: a page that starts an execution and follows it by server-sent events.

$ python -u examples/web_app.py 7281 &

Then open http://127.0.0.1:7281/. Journal and vault are kept in ./web-data.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

from aiohttp import web

import torana
from torana_server import Gateway, StepContext, WorkflowBuilder

CLIENT = web.AppKey("client", torana.Client)
PAGE = """<!doctype html><title>Reports</title><button>Start a report</button><pre></pre><script>
document.querySelector("button").onclick = async () => {
  const started = await fetch("/reports", {method: "POST", body: new URLSearchParams({rooms: 5})});
  const events = new EventSource((await started.json()).events);  // the browser reconnects by itself
  const show = (text) => document.querySelector("pre").append(text + "\\n");
  events.addEventListener("progress", (event) => show(JSON.parse(event.data).message));
  events.addEventListener("end", (event) => { show(event.data); events.close(); });
};</script>"""


async def measure(rooms: int, ctx: StepContext) -> dict[str, object]:
    for room in range(1, rooms + 1):
        await asyncio.sleep(0.1)
        await ctx.progress(room / rooms, f"room {room} of {rooms}")
    return {"rooms": rooms}


async def torana_of_the_app(app: web.Application) -> AsyncIterator[None]:
    """The server starts and stops with the application, which calls it as any other caller would."""
    async with Gateway(data_dir="web-data") as gateway:
        workflow = WorkflowBuilder("report").add_step("measure", measure).build()
        gateway.register_workflow("report", workflow)
        port = await gateway.serve("127.0.0.1:0")
        async with torana.Client(f"127.0.0.1:{port}") as app[CLIENT]:
            yield


async def page(request: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


async def start(request: web.Request) -> web.Response:
    form = await request.post()
    execution = await request.app[CLIENT].start_workflow("report", {"rooms": int(str(form["rooms"]))})
    return web.json_response({"events": f"/reports/{execution.id}"})


async def follow(request: web.Request) -> web.StreamResponse:
    """The id of each event is its sequence: a browser that lost its connection says the last one it had."""
    after = int(request.headers.get("Last-Event-ID", 0))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    async with request.app[CLIENT].watch(request.match_info["execution"], after) as stream:
        async for event in stream:
            if event.kind == "step_progress":
                shown = {name: event.data[name] for name in ("fraction", "message")}
                await send(response, event.sequence, "progress", json.dumps(shown))
        await send(response, stream.last_sequence, "end", (await stream.result()).status)
    return response


async def send(response: web.StreamResponse, sequence: int, kind: str, text: str) -> None:
    await response.write(f"id: {sequence}\nevent: {kind}\ndata: {text}\n\n".encode())


def application() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(torana_of_the_app)
    app.add_routes([web.get("/", page), web.post("/reports", start), web.get("/reports/{execution}", follow)])
    return app


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=int(sys.argv[1]))
