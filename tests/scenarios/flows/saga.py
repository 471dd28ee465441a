"""Booking a trip as a saga; its steps and what undoes them are in saga.yaml."""

from __future__ import annotations

from scenarios.flows.files import definition
from torana_server import Gateway


def register(gateway: Gateway) -> None:
    gateway.register_workflow("book_trip", definition("saga"))
