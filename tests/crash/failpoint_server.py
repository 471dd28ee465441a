"""Servers whose code has failpoints, each a process of its own, forked from this one, which has imported everything.

Reads orders as JSON lines and answers with lines: `{"folder": …, "step": …, "when": …, "nth": …}` starts a server and
gets its process and port (0 if it died before it listened), `{"wait": process}` gets the exit code. One at a time. All
are gone when its standard input ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from crash import failpoints

failpoints.install()

import uvloop  # noqa: E402

from served import effects  # noqa: E402
from torana_server import Gateway, StepContext, WorkflowBuilder  # noqa: E402 — with failpoints
from torana_server.adapters.sqlite import writer as journal_writer  # noqa: E402
from torana_server.settings import Settings  # noqa: E402
from torana_server.telemetry import configure_logging  # noqa: E402

CHECKPOINT_PAGES = 20
"""So that the journal is checkpointed now and then while little happens."""


def serve(order: dict[str, Any], port_to: int) -> None:
    if order["step"]:
        failpoints.ARMED.failpoint = failpoints.Failpoint(order["step"], order["when"])
        failpoints.ARMED.nth = order["nth"]
    setattr(journal_writer, "CHECKPOINT_PAGES", CHECKPOINT_PAGES)  # noqa: B010 — mypy knows it as final
    folder = Path(order["folder"])
    os.dup2(os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), 2)
    configure_logging("INFO", "json")
    gateway = Gateway(data_dir=folder, settings=Settings(drain_grace_s=0))
    effects.register(gateway)
    reads = WorkflowBuilder("reads").add_step("read", reader_of(gateway), function_name="read").build()
    gateway.register_workflow("reads", reads)
    uvloop.run(gateway.serve_until_stopped("127.0.0.1:0", lambda port: tell(port_to, port)))


def reader_of(gateway: Gateway) -> Any:
    async def read(name: str, ctx: StepContext) -> object:
        secret = await gateway.secret_manager.get_secret(name, purpose=ctx.execution_id)
        return len(str(secret["token"]))

    return read


def tell(port_to: int, port: int) -> None:
    os.write(port_to, f"{port}\n".encode())
    os.close(port_to)


def start(order: dict[str, Any]) -> dict[str, int]:
    port_from, port_to = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(port_from)
        code = 1
        try:
            serve(order, port_to)
            code = 0
        finally:
            os._exit(code)
    os.close(port_to)
    with os.fdopen(port_from) as told:
        return {"process": process, "port": int(told.readline() or 0)}


def main() -> None:
    running = 0
    for line in sys.stdin:
        order = json.loads(line)
        if process := order.get("wait"):
            answer = {"code": os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}
            running = 0
        else:
            answer = start(order)
            running = answer["process"]
        print(json.dumps(answer), flush=True)
    if running:
        os.kill(running, signal.SIGKILL)


if __name__ == "__main__":
    main()
