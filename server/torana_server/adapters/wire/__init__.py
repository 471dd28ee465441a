"""The byte form of events: torana.v1.ExecutionEvent."""
