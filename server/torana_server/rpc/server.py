"""The gRPC face: one server over everything that `Faces` names."""

from __future__ import annotations

import asyncio
import errno
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from torana_server.core import logs
from torana_server.rpc import reflection
from torana_server.rpc.calls import Authenticator, Everybody
from torana_server.rpc.interceptors import CallInterceptor, Tally
from torana_server.rpc.listening import check_address, credentials
from torana_server.rpc.ports import Faces
from torana_server.rpc.registration import SERVICES, handlers_of
from torana_server.rpc.servicers import (
    ExecutionServicer,
    ResourceServicer,
    SecretServicer,
    SystemServicer,
    WorkflowServicer,
)
from torana_server.rpc.settings import RpcSettings
from torana_server.rpc.streams import OpenStreams

logger = logs.logger("rpc")

DRAIN_S_MAX: Final = 10.0
"""What `drain` waits for calls at most; a client that reads nothing holds its stream open for ever."""
HEALTH: Final[str] = health.SERVICE_NAME


class GrpcServer:
    """Stopping: `refuse`, let the engine drain, `drain`, `stop`. Each may be left out."""

    def __init__(self, faces: Faces, settings: RpcSettings, authenticator: Authenticator | None = None) -> None:
        """Raises InvalidRequestError for an address that would be reachable without TLS."""
        check_address(settings)
        self._settings = settings
        self._faces = faces
        self._tally = Tally(access_log=settings.access_log)
        self._streams = OpenStreams(settings.streams_max)
        self._health = health.aio.HealthServicer()
        self._refusing: asyncio.Task[None] | None = None
        self._interceptor = CallInterceptor(authenticator or Everybody(), self._tally, settings)
        self._server: grpc.aio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port it listens on, once started; 1 for a Unix socket."""
        return self._port

    async def start(self) -> tuple[str, int]:
        """Serves; returns host and port, or `unix:PATH` and 1. Raises OSError when it cannot listen."""
        server = grpc.aio.server(interceptors=[self._interceptor], options=self._settings.channel_options())
        server.add_generic_rpc_handlers(self._handlers())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._port = self._listen(server)
        self._server = server
        await server.start()
        for service in (*(descriptor.full_name for descriptor in SERVICES.values()), HEALTH, ""):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        address = self._settings.address
        host = address.rpartition(":")[0] if self._settings.is_tcp else address
        logger.info("listening on %s", f"{host}:{self._port}" if self._settings.is_tcp else address)
        return host, self._port

    def refuse(self) -> None:
        """Health turns NOT_SERVING, so that load balancers look elsewhere. Calls are still answered."""
        if self._refusing is None:
            self._refusing = asyncio.get_running_loop().create_task(self._health.enter_graceful_shutdown())

    async def drain(self) -> None:
        """Ends every stream of events with a resumable end, takes no new one, and waits for the calls that are open."""
        self.refuse()
        assert self._refusing is not None
        await self._refusing
        self._streams.drain()
        try:
            async with asyncio.timeout(DRAIN_S_MAX):
                await self._tally.idle()
        except TimeoutError:
            logger.warning("%d calls are still open after %g s", self._tally.values()["rpc_open"], DRAIN_S_MAX)

    async def stop(self, grace_s: float) -> None:
        """Listens no more, and cuts what is still open after `grace_s`. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)

    def stats(self) -> dict[str, int]:
        """Numbers of this face: `Tally.values` and `rpc_streams_open`."""
        return {**self._tally.values(), "rpc_streams_open": len(self._streams)}

    def _handlers(self) -> list[grpc.GenericRpcHandler]:
        servicers = self._servicers()
        handlers = [handlers_of(SERVICES[name], servicer) for name, servicer in servicers.items()]
        if self._settings.reflection:
            names = [HEALTH, *(SERVICES[name].full_name for name in servicers)]
            handlers += reflection.handlers(names)
        return handlers

    def _servicers(self) -> dict[str, object]:
        faces, settings = self._faces, self._settings
        return {
            "ExecutionService": ExecutionServicer(faces.engine, faces.workflows, self._streams, faces.clock, settings),
            "WorkflowService": WorkflowServicer(faces.workflows, faces.step_types, settings),
            "ResourceService": ResourceServicer(faces.resources, faces.resource_types, settings),
            "SecretService": SecretServicer(faces.secrets, settings, faces.clock),
            "SystemService": SystemServicer(faces.system, self.stats),
        }

    def _listen(self, server: grpc.aio.Server) -> int:
        address = self._settings.address
        tls = credentials(self._settings)
        try:
            return server.add_insecure_port(address) if tls is None else server.add_secure_port(address, tls)
        except RuntimeError as error:
            problem = f"it cannot listen on {address}: the address is in use, or is none of this machine's"
            raise OSError(errno.EADDRINUSE, problem) from error
