"""References, pools and leases: what a workflow's named resources resolve to."""

from torana_server.resources.borrowers import Borrower, Holdings
from torana_server.resources.leases import Leases
from torana_server.resources.pool_factory import CacheFactory, DatabasePoolFactory, HttpClientFactory, PoolFactory
from torana_server.resources.ports import SecretReader, SecretValue
from torana_server.resources.reference import Binding, Referring, ResourceReference, SharedName, binding_from
from torana_server.resources.registry import ResourceRegistry
from torana_server.resources.resolver import ResourceResolver
from torana_server.resources.resource_type import ResourceType, TypeConfig
from torana_server.resources.resources import Resources
from torana_server.resources.settings import ResourceSettings
from torana_server.resources.status import ResourceState, ResourceStatus
from torana_server.resources.type_registry import ResourceTypes

__all__ = [
    "Binding",
    "Borrower",
    "CacheFactory",
    "DatabasePoolFactory",
    "Holdings",
    "HttpClientFactory",
    "Leases",
    "PoolFactory",
    "Referring",
    "ResourceReference",
    "ResourceRegistry",
    "ResourceResolver",
    "ResourceSettings",
    "ResourceState",
    "ResourceStatus",
    "ResourceType",
    "ResourceTypes",
    "Resources",
    "SecretReader",
    "SecretValue",
    "SharedName",
    "TypeConfig",
    "binding_from",
]
