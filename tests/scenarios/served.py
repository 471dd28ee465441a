"""The workflows of every scenario, as the embedding program and the server process register them."""

from __future__ import annotations

from scenarios.flows import aggregation, batches, caching, etl, events, limits, loans, replica, validation
from torana_server import Gateway

SCENARIOS = (etl, aggregation, events, validation, replica, limits, caching, loans, batches)


def register(gateway: Gateway) -> None:
    for scenario in SCENARIOS:
        scenario.register(gateway)
