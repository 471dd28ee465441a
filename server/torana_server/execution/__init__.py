"""Executions: events, state, scheduling, the engine that drives them and the feed that streams them."""
