"""What happens around every call."""

from torana_server.rpc.interceptors.calls import CallInterceptor
from torana_server.rpc.interceptors.tally import Tally

__all__ = ["CallInterceptor", "Tally"]
