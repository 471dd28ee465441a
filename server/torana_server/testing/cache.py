"""A Redis in memory, whose expiry follows virtual time."""

from __future__ import annotations

import sys
import time
from typing import Any

from torana_server.testing.virtual_time import current_clock

try:
    import fakeredis
except ImportError as error:
    raise ImportError('torana_server.testing needs its extra: pip install "torana-server[testing]"') from error


class _Time:
    """The module `time` as fakeredis sees it: the running loop's time where that is virtual."""

    def time(self) -> float:
        clock = current_clock()
        return time.time() if clock is None else clock.now() / 1_000_000

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def _follow_virtual_time() -> None:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "fakeredis" and vars(module).get("time") is time:
            vars(module)["time"] = _Time()


_follow_virtual_time()


class FakeCache(fakeredis.FakeAsyncRedis):
    """What `get_resource` gives for a `cache`: `redis.asyncio.Redis` with the whole of Redis behind it, in memory.

    Each has its own data. `decode_responses` is as in the config of a `cache`. Keys expire in virtual time.
    """

    def __init__(self, *, decode_responses: bool = False) -> None:
        super().__init__(server=fakeredis.FakeServer(), decode_responses=decode_responses)
