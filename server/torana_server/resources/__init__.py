"""References, pools and leases: what a workflow's named resources resolve to."""

from torana_server.resources.reference import Binding, ResourceReference, SharedName

__all__ = ["Binding", "ResourceReference", "SharedName"]
