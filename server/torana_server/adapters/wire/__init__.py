"""The byte form of events: torana.v1.ExecutionEvent."""

from torana_server.adapters.wire.codec import WireCodec

__all__ = ["WireCodec"]
