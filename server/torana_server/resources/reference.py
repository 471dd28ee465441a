"""References: JSON that says which external thing is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ResourceReference:
    """`config` is a JSON object checked against the type's model; credentials come from the secret
    `credentials_ref` only. Guides write it with keyword arguments or as a plain dict."""

    type: str
    config: Mapping[str, object] = field(default_factory=dict)
    credentials_ref: str = ""
    credentials_key: str = ""
    register_as: str = ""
    health_check_interval_s: float | None = None


@dataclass(frozen=True, slots=True)
class SharedName:
    """`@name`: a resource registered under a name in the tenant."""

    name: str


Binding = ResourceReference | SharedName
