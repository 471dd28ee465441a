"""One servicer a service: read the request, ask the product, answer."""

from torana_server.rpc.servicers.execution import ExecutionServicer
from torana_server.rpc.servicers.resource import ResourceServicer
from torana_server.rpc.servicers.secret import SecretServicer
from torana_server.rpc.servicers.system import SystemServicer
from torana_server.rpc.servicers.workflow import WorkflowServicer

__all__ = ["ExecutionServicer", "ResourceServicer", "SecretServicer", "SystemServicer", "WorkflowServicer"]
