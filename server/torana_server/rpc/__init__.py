"""The gRPC face."""

from torana_server.rpc.calls import Authenticator
from torana_server.rpc.ports import (
    ComponentHealth,
    Faces,
    HealthStatus,
    ServerHealth,
    ServerInfo,
    ServerStats,
    System,
)
from torana_server.rpc.server import GrpcServer
from torana_server.rpc.settings import RpcSettings

__all__ = [
    "Authenticator",
    "ComponentHealth",
    "Faces",
    "GrpcServer",
    "HealthStatus",
    "RpcSettings",
    "ServerHealth",
    "ServerInfo",
    "ServerStats",
    "System",
]
