"""SecretService. Values go in and never come out, not even in an error."""

from __future__ import annotations

from typing import Any

from torana.v1 import secret_service_pb2 as pb
from torana_server.core.clock import Clock
from torana_server.rpc.calls import principal
from torana_server.rpc.checks import Checks
from torana_server.rpc.mapping import secret_of, secret_to_message, secret_version_to_message
from torana_server.rpc.paging import Query, page_of
from torana_server.rpc.settings import RpcSettings
from torana_server.vault import SecretManager


class SecretServicer:
    def __init__(self, secrets: SecretManager, settings: RpcSettings, clock: Clock) -> None:
        self._secrets = secrets
        self._settings = settings
        self._clock = clock

    async def PutSecret(self, request: pb.PutSecretRequest, context: Any) -> pb.PutSecretResponse:  # noqa: N802
        checks = Checks()
        checks.name("name", request.name)
        value = secret_of(request.value, checks, "value")
        checks.done()
        secret = await self._secrets.store_secret(request.name, value, principal=principal())
        return pb.PutSecretResponse(secret=secret_to_message(secret))

    async def GetSecret(self, request: pb.GetSecretRequest, context: Any) -> pb.GetSecretResponse:  # noqa: N802
        checks = Checks()
        checks.name("name", request.name)
        checks.done()
        secret = await self._secrets.describe_secret(request.name, principal=principal())
        return pb.GetSecretResponse(secret=secret_to_message(secret))

    async def ListSecrets(self, request: pb.ListSecretsRequest, context: Any) -> pb.ListSecretsResponse:  # noqa: N802
        checks = Checks()
        size = checks.page_size(request.page_size)
        checks.done()
        query = Query(principal().tenant, "ListSecrets")
        after = query.position(request.page_token) if request.page_token else ""
        page = page_of(
            await self._secrets.list_secrets(principal=principal(), after=after, limit=size + 1),
            query=query,
            size=size,
            bytes_max=self._settings.page_bytes_max,
            item=secret_to_message,
            position=lambda secret: secret.name,
        )
        return pb.ListSecretsResponse(secrets=page.items, next_page_token=page.next_token)

    async def ListSecretVersions(  # noqa: N802
        self, request: pb.ListSecretVersionsRequest, context: Any
    ) -> pb.ListSecretVersionsResponse:
        checks = Checks()
        checks.name("name", request.name)
        size = checks.page_size(request.page_size)
        checks.done()
        query = Query(principal().tenant, "ListSecretVersions", (request.name,))
        before = int(query.position(request.page_token)) if request.page_token else None
        latest = (await self._secrets.describe_secret(request.name, principal=principal())).version
        now = self._clock.now()
        page = page_of(
            await self._secrets.list_versions(request.name, principal=principal(), before=before, limit=size + 1),
            query=query,
            size=size,
            bytes_max=self._settings.page_bytes_max,
            item=lambda version: secret_version_to_message(version, latest, now),
            position=lambda version: str(version.version),
        )
        return pb.ListSecretVersionsResponse(versions=page.items, next_page_token=page.next_token)

    async def DeleteSecret(self, request: pb.DeleteSecretRequest, context: Any) -> pb.DeleteSecretResponse:  # noqa: N802
        checks = Checks()
        checks.name("name", request.name)
        checks.done()
        await self._secrets.delete_secret(request.name, principal=principal())
        return pb.DeleteSecretResponse()

    async def RotateKeys(self, request: pb.RotateKeysRequest, context: Any) -> pb.RotateKeysResponse:  # noqa: N802
        rotation = await self._secrets.rotate_key(principal=principal())
        return pb.RotateKeysResponse(rewrapped=rotation.rewrapped, primary_key_id=rotation.primary_key_id)
