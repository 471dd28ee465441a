"""Pools as a program makes them by itself, from settings and credentials that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from torana_server.core.clock import SystemClock
from torana_server.core.errors import InvalidRequestError, Violation
from torana_server.resources.borrowers import Borrower
from torana_server.resources.config_rules import parsed_config, reference_problems
from torana_server.resources.reference import ResourceReference
from torana_server.resources.resource_type import ResourceType
from torana_server.resources.types.cache import CacheType, LeasedRedis
from torana_server.resources.types.database import Database, DatabaseType
from torana_server.resources.types.http_client import HttpClient, HttpClientType

LentT = TypeVar("LentT")


class PoolFactory(Generic[LentT]):
    """For `ResourceRegistry.register_factory`. Its arguments are the settings of a reference's `config`, and the fields
    of its secret; the object is the one that such a reference gives. No repr shows credentials.
    """

    type_class: ClassVar[type[ResourceType[Any, Any]]]

    def __init__(self, **settings: object) -> None:
        """Opens nothing. Raises InvalidRequestError with every setting that is wrong."""
        self.type = self.type_class()
        credential_fields = (self.type.credential_fields or frozenset()) - self.type.config_model.model_fields.keys()
        self.credentials: Mapping[str, object] = {
            name: value for name, value in settings.items() if name in credential_fields
        }
        chosen = {name: value for name, value in settings.items() if name not in credential_fields}
        found = reference_problems(ResourceReference(self.type.name, chosen), self.type)
        if found:
            violations = [Violation(problem.path.removeprefix("config."), problem.message) for problem in found]
            raise InvalidRequestError(f"{type(self).__name__} cannot open that.", violations=violations)
        self.config = parsed_config(chosen, self.type)
        self._created: dict[int, tuple[object, Any]] = {}

    async def create(self) -> LentT:
        """Opens a pool of its own, for use without a gateway; `close` closes it. Raises what its driver raises."""
        pool = await self.type.open(self.config, self.credentials)
        lent: Any = self.type.lend(pool, Borrower(self.type.name, "", "", type(self).__name__, 1, SystemClock()))
        self._created[id(lent)] = lent, pool
        return lent  # type: ignore[no-any-return] # a type's `lend` promises an object; the subclass says which

    async def close(self, created: LentT) -> None:
        """Closes what `create` returned. Once more does nothing."""
        lent, pool = self._created.pop(id(created), (None, None))
        if lent is not None:
            await self.type.take_back(pool, lent)
            await self.type.close(pool)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.type.describe(self.config)})"


class DatabasePoolFactory(PoolFactory[Database]):
    """`DatabasePoolFactory(host="db.example.com", database="app", user="app", password="…", max_size=5)`."""

    type_class = DatabaseType


class HttpClientFactory(PoolFactory[HttpClient]):
    """`HttpClientFactory(base_url="https://api.example.com", token="…")`."""

    type_class = HttpClientType


class CacheFactory(PoolFactory[LeasedRedis]):
    """`CacheFactory(host="cache.example.com", password="…", decode_responses=True)`."""

    type_class = CacheType
