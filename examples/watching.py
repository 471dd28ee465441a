"""Watch an execution from another process, stop, and go on later without missing anything.

torana serve --workflows examples
python examples/watching.py start             # prints the id of an execution
python examples/watching.py watch ID          # prints its events, from the first to the last
python examples/watching.py watch ID 5        # only those after event 5
"""

from __future__ import annotations

import os
import sys

import torana

ADDRESS = os.environ.get("TORANA_ADDRESS", "127.0.0.1:7233")


def start(client: torana.BlockingClient) -> None:
    """Returns as soon as the execution is durable; it runs on without this process."""
    print(client.start_workflow("hello", {"name": "World"}).id)


def watch(client: torana.BlockingClient, execution: str, after_sequence: int = 0) -> None:
    """The client reconnects by itself. `last_sequence` is all that a later process needs to go on."""
    stream = client.watch(execution, after_sequence)
    for event in stream:
        print(event.sequence, event.kind, event.step)
    print(f"{stream.result().status}; all events up to {stream.last_sequence} were seen")


if __name__ == "__main__":
    with torana.BlockingClient(ADDRESS) as client:
        match sys.argv[1:]:
            case ["start"]:
                start(client)
            case ["watch", execution]:
                watch(client, execution)
            case ["watch", execution, after_sequence]:
                watch(client, execution, int(after_sequence))
            case _:
                sys.exit(__doc__)
