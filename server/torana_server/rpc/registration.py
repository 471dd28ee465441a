"""Services from their descriptors: every RPC of the contract is offered, or the server does not start."""

from __future__ import annotations

from typing import Any, Final

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from torana.v1 import (
    execution_service_pb2,
    resource_service_pb2,
    secret_service_pb2,
    system_service_pb2,
    workflow_service_pb2,
)

SERVICES: Final[dict[str, ServiceDescriptor]] = {
    name: file.DESCRIPTOR.services_by_name[name]
    for name, file in {
        "ExecutionService": execution_service_pb2,
        "WorkflowService": workflow_service_pb2,
        "ResourceService": resource_service_pb2,
        "SecretService": secret_service_pb2,
        "SystemService": system_service_pb2,
    }.items()
}


def serialised(message: Any) -> bytes:
    """A message as bytes; what is bytes already, such as a frame of stored events, stays as it is."""
    if type(message) is bytes:
        return message
    data: bytes = message.SerializeToString()
    return data


def handlers_of(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """`servicer` has a method for each RPC, of the same name: `async (request, context) -> response`, or an async
    generator for a stream. Raises AttributeError when one is missing."""
    handlers = {method.name: _handler(method, getattr(servicer, method.name)) for method in service.methods}
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(method: MethodDescriptor, behavior: Any) -> grpc.RpcMethodHandler[Any, Any]:
    assert not method.client_streaming, "no RPC of the contract takes a stream"
    make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
    request: Any = GetMessageClass(method.input_type)
    return make(behavior, request_deserializer=request.FromString, response_serializer=serialised)
