"""A sample for a freezer; the checks are in validation.yaml."""

from __future__ import annotations

from scenarios.flows.files import definition
from torana_server import Gateway


def register(gateway: Gateway) -> None:
    gateway.register_workflow("book_sample", definition("validation"))
