"""What a reference means in a tenant, and the keys that tell pools apart."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from torana_server.resources.reference import ResourceReference, canonical_json
from torana_server.resources.registry import SharedObject
from torana_server.resources.resource_type import ResourceType


@dataclass(frozen=True, slots=True)
class Target:
    """Everything a pool is opened from but the credentials.

    `line` is equal for targets that differ in nothing, whatever version their secret has. `kept_open`: not closed for
    being idle, since an operator's object may hold state. `tenant` is empty for those, and `credentials` are what
    its factory holds itself.
    """

    tenant: str
    type: ResourceType[Any, Any]
    config: BaseModel
    line: bytes
    credentials_ref: str = ""
    credentials_key: str = ""
    health_check_interval_s: float | None = None
    kept_open: bool = False
    credentials: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def description(self) -> str:
        return self.type.describe(self.config)


class TargetKeys:
    """Keyed hashes (BLAKE2b, a random key a process): they show nothing of a config and cannot be made to collide.

    Hashed is each part's length in 8 bytes, big-endian, then the part, in UTF-8.
    """

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def reference(
        self, tenant: str, resource_type: ResourceType[Any, Any], config: BaseModel, reference: ResourceReference
    ) -> Target:
        line = self._digest(
            "reference",
            tenant,
            resource_type.name,
            canonical_json(config.model_dump(mode="json")),
            reference.credentials_ref,
            reference.credentials_key,
        )
        return Target(
            tenant,
            resource_type,
            config,
            line,
            credentials_ref=reference.credentials_ref,
            credentials_key=reference.credentials_key,
            health_check_interval_s=reference.health_check_interval_s,
        )

    def operators(self, shared: SharedObject) -> Target:
        line = self._digest("object", shared.name)
        return Target("", shared.type, shared.config, line, kept_open=True, credentials=shared.credentials)

    def pool(self, line: bytes, version: int) -> bytes:
        """The key of the pool of a line that uses this version of its secret."""
        return hashlib.blake2b(line + version.to_bytes(8), key=self._key, digest_size=16).digest()

    def _digest(self, *parts: str) -> bytes:
        digest = hashlib.blake2b(key=self._key, digest_size=32)
        for part in parts:
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8) + encoded)
        return digest.digest()
