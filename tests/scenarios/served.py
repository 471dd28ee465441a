"""The workflows of every scenario, as the embedding program and the server process register them."""

from __future__ import annotations

from scenarios.flows import (
    aggregation,
    batches,
    caching,
    concurrency,
    debugging,
    degradation,
    etl,
    events,
    instruments,
    isolation,
    limits,
    loans,
    replica,
    retries,
    saga,
    sourcing,
    tiers,
    validation,
)
from torana_server import Gateway

SCENARIOS = (
    etl,
    aggregation,
    events,
    validation,
    replica,
    limits,
    caching,
    loans,
    isolation,
    degradation,
    retries,
    batches,
    concurrency,
    tiers,
    instruments,
    debugging,
    sourcing,
    saga,
)


def register(gateway: Gateway) -> None:
    for scenario in SCENARIOS:
        scenario.register(gateway)
