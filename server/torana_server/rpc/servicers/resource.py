"""ResourceService."""

from __future__ import annotations

from typing import Any

from torana.v1 import resource_service_pb2 as pb
from torana_server.resources import Resources, ResourceTypes
from torana_server.rpc.calls import principal
from torana_server.rpc.checks import Checks
from torana_server.rpc.mapping import resource_to_message, resource_type_to_message
from torana_server.rpc.paging import Query, names_after, page_of
from torana_server.rpc.settings import RpcSettings


class ResourceServicer:
    def __init__(self, resources: Resources, types: ResourceTypes, settings: RpcSettings) -> None:
        self._resources = resources
        self._types = types
        self._settings = settings

    async def ListResources(self, request: pb.ListResourcesRequest, context: Any) -> pb.ListResourcesResponse:  # noqa: N802
        checks = Checks()
        size = checks.page_size(request.page_size)
        checks.done()
        query = Query(principal().tenant, "ListResources")
        after = query.position(request.page_token) if request.page_token else ""
        statuses = await self._resources.list(principal())
        page = page_of(
            (status for status in statuses if status.name > after),
            query=query,
            size=size,
            bytes_max=self._settings.page_bytes_max,
            item=resource_to_message,
            position=lambda status: status.name,
        )
        return pb.ListResourcesResponse(resources=page.items, next_page_token=page.next_token)

    async def GetResource(self, request: pb.GetResourceRequest, context: Any) -> pb.GetResourceResponse:  # noqa: N802
        status = await self._resources.get(principal(), _name(request))
        return pb.GetResourceResponse(resource=resource_to_message(status))

    async def CheckResource(self, request: pb.CheckResourceRequest, context: Any) -> pb.CheckResourceResponse:  # noqa: N802
        status = await self._resources.check(principal(), _name(request))
        return pb.CheckResourceResponse(resource=resource_to_message(status))

    async def DrainResource(self, request: pb.DrainResourceRequest, context: Any) -> pb.DrainResourceResponse:  # noqa: N802
        status = await self._resources.drain(principal(), _name(request))
        return pb.DrainResourceResponse(resource=resource_to_message(status))

    async def ListResourceTypes(  # noqa: N802
        self, request: pb.ListResourceTypesRequest, context: Any
    ) -> pb.ListResourceTypesResponse:
        checks = Checks()
        size = checks.page_size(request.page_size)
        checks.done()
        query = Query(principal().tenant, "ListResourceTypes")
        after = query.position(request.page_token) if request.page_token else ""
        page = page_of(
            map(self._types.get, names_after(self._types.names(), after)),
            query=query,
            size=size,
            bytes_max=self._settings.page_bytes_max,
            item=resource_type_to_message,
            position=lambda resource_type: resource_type.name,
        )
        return pb.ListResourceTypesResponse(resource_types=page.items, next_page_token=page.next_token)


def _name(request: pb.GetResourceRequest | pb.CheckResourceRequest | pb.DrainResourceRequest) -> str:
    checks = Checks()
    checks.name("name", request.name)
    checks.done()
    return request.name
