"""Prints the tokens of an answer as they come. What was printed is never printed again, whatever was cut in between.

$ python examples/token_stream/read.py "What is a torana?"

The client reconnects by itself when the network breaks or the server starts again. Should this program be stopped, it
says how to read on:

    python examples/token_stream/read.py --execution ID --after SEQUENCE
"""

from __future__ import annotations

import argparse
import asyncio
import os

import torana


async def read(stream: torana.ExecutionStream) -> None:
    """A stream is cancelled by Ctrl-C; its `last_sequence` then is the last event that was printed."""
    try:
        async for event in stream:
            if event.kind in ("step_retrying", "recovered"):
                print("\n[the answer begins again]")
            elif event.kind == "step_emitted":
                print(event.data["value"], end=" ", flush=True)
        result = await stream.result()
        print(f"\n[{result.status}: {result.result['generate']['tokens']} tokens]")
    except asyncio.CancelledError:
        print(f"\n[stopped; read on with --execution {stream.execution_id} --after {stream.last_sequence}]")


async def main(arguments: argparse.Namespace) -> None:
    async with torana.Client(os.environ.get("TORANA_ADDRESS", "localhost:7233")) as client:
        if arguments.execution:
            stream = client.watch(arguments.execution, arguments.after)
        else:
            stream = client.execute("answer", {"question": arguments.question, "pause_ms": arguments.pause_ms})
        async with stream:
            await read(stream)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Prints the tokens of an answer as they come.")
    parser.add_argument("question", nargs="?", default="")
    parser.add_argument("--pause-ms", type=int, default=50, help="between two tokens")
    parser.add_argument("--execution", help="id of an execution to read on")
    parser.add_argument("--after", type=int, default=0, help="the last sequence that was printed")
    asyncio.run(main(parser.parse_args()))
