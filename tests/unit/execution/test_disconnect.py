from __future__ import annotations

import asyncio

from simulation.virtual_time import simulated
from torana_server.execution.disconnect import FIRST_ATTACH_S, DisconnectGuard


class Watched:
    """A guard over one execution, and when its grace ran out."""

    def __init__(self, grace_s: float, attached: int = 0) -> None:
        self.expired: list[float] = []
        self.guard = DisconnectGuard()
        loop = asyncio.get_running_loop()
        self.guard.guard("e", grace_s, lambda: self.expired.append(loop.time()), attached=attached)


@simulated
async def test_an_execution_to_which_nobody_ever_attaches_expires_after_its_grace() -> None:
    watched = Watched(30)
    await asyncio.sleep(100)
    assert watched.expired == [30]


@simulated
async def test_a_short_grace_leaves_time_to_attach_at_first() -> None:
    watched = Watched(0)
    await asyncio.sleep(FIRST_ATTACH_S / 2)
    watched.guard.attached("e")
    await asyncio.sleep(100)
    assert watched.expired == []
    watched.guard.detached("e")
    await asyncio.sleep(0.001)
    assert len(watched.expired) == 1


@simulated
async def test_who_comes_back_within_the_grace_keeps_it_alive() -> None:
    watched = Watched(30)
    watched.guard.attached("e")
    for _ in range(5):
        watched.guard.detached("e")
        await asyncio.sleep(29)
        watched.guard.attached("e")
        await asyncio.sleep(60)
    assert watched.expired == []


@simulated
async def test_it_expires_only_when_the_last_of_several_is_gone() -> None:
    watched = Watched(30)
    watched.guard.attached("e")
    watched.guard.attached("e")
    watched.guard.detached("e")
    await asyncio.sleep(100)
    assert watched.expired == []
    watched.guard.detached("e")
    await asyncio.sleep(100)
    assert watched.expired == [130]


@simulated
async def test_those_attached_before_it_was_guarded_count() -> None:
    watched = Watched(30, attached=1)
    await asyncio.sleep(100)
    assert watched.expired == []
    watched.guard.detached("e")
    await asyncio.sleep(100)
    assert watched.expired == [130]


@simulated
async def test_a_forgotten_execution_never_expires_and_others_are_nobodys_concern() -> None:
    watched = Watched(30)
    watched.guard.forget("e")
    watched.guard.attached("another")
    watched.guard.detached("another")
    await asyncio.sleep(100)
    assert watched.expired == []
