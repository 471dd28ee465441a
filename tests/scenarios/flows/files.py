"""The workflows that are YAML files beside this one."""

from __future__ import annotations

from pathlib import Path

from torana_server import Definition
from torana_server.workflow import from_yaml


def definition(name: str) -> Definition:
    return from_yaml((Path(__file__).parent / f"{name}.yaml").read_text("utf-8"))
