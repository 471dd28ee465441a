"""Torana: durable workflows over named, pooled resources, streamed over gRPC."""
