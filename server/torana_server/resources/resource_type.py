"""The contract of a resource type: how one kind of outside thing is described, opened, checked, lent and closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from torana_server.resources.borrowers import Borrower


class TypeConfig(BaseModel):
    """Base of config models: unknown keys refused, no silent conversions, values not repeated in errors."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


ConfigT = TypeVar("ConfigT", bound=BaseModel)
PoolT = TypeVar("PoolT")


class ResourceType(ABC, Generic[ConfigT, PoolT]):
    """One instance serves all pools of its type and keeps no state.

    `open`, `check` and `close` run under the server's timeouts, in an empty `contextvars.Context`. What they raise
    reaches callers as RESOURCE_UNAVAILABLE with the credentials taken out of its text.
    """

    name: str
    """The value of `ResourceReference.type`."""
    description: str
    """One sentence."""
    config_model: ClassVar[type[BaseModel]]
    credential_fields: ClassVar[frozenset[str] | None] = frozenset()
    """What `open` understands of a secret; everything else in it is left out. None: it gets all of it. A type that
    lists `allowed_hosts` promises to send credentials to no host but these; any other gets nothing of a secret that
    has them."""
    plain_credential: ClassVar[str] = ""
    """The field that a provider's plain string stands for; empty: a plain string is an error."""

    @abstractmethod
    async def open(self, config: ConfigT, credentials: Mapping[str, object]) -> PoolT:
        """Opens the pool and proves that it works, or raises and leaves nothing open.

        `credentials` holds only `credential_fields`, and is empty without `credentials_ref`. They go into the pool
        and nowhere else: not into its repr, its attributes' repr, or errors.
        """

    @abstractmethod
    async def check(self, pool: PoolT) -> None:
        """Returns when the pool is well, raises when it is not. A pool that is busy is not unwell."""

    @abstractmethod
    async def close(self, pool: PoolT) -> None:
        """Closes for good. Nothing is lent from it any more."""

    @abstractmethod
    def describe(self, config: ConfigT) -> str:
        """What it points at, such as `db.example.com:5432/app`."""

    def stats(self, pool: PoolT) -> Mapping[str, int]:
        """Numbers of the pool, such as `size` and `free`."""
        return {}

    def provider_host(self, config: ConfigT) -> str:
        """The host whose registered domain chooses an entry of a secret with one entry a provider; "" for none."""
        return ""

    def lend(self, pool: PoolT, borrower: Borrower) -> object:
        """The object a step gets. A type that lends the pool itself shares it between steps as it is."""
        return pool

    async def take_back(self, pool: PoolT, lent: Any) -> None:
        """The attempt is over: gives back what the step kept, and makes `lent` refuse further use."""
