"""SystemService."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torana.v1 import system_service_pb2 as pb
from torana_server.rpc.mapping import health_to_message, info_to_message, stats_to_message
from torana_server.rpc.ports import System


class SystemServicer:
    """`own_stats` are the numbers of the face itself."""

    def __init__(self, system: System, own_stats: Callable[[], Mapping[str, int]]) -> None:
        self._system = system
        self._own_stats = own_stats

    async def GetInfo(self, request: pb.GetInfoRequest, context: Any) -> pb.GetInfoResponse:  # noqa: N802
        return info_to_message(self._system.info())

    async def GetHealth(self, request: pb.GetHealthRequest, context: Any) -> pb.GetHealthResponse:  # noqa: N802
        return health_to_message(await self._system.health())

    async def GetStats(self, request: pb.GetStatsRequest, context: Any) -> pb.GetStatsResponse:  # noqa: N802
        return stats_to_message(await self._system.stats(), self._own_stats())
