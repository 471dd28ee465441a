"""Definitions read back from a server are those that were registered."""

from __future__ import annotations

from hypothesis import given

from torana._native import to_native
from torana_server.cli.definitions import definition_of
from torana_server.rpc.mapping import definition_to_message
from torana_server.workflow import Definition, revision_of
from unit.rpc.test_mapping import DEFINITIONS


@given(DEFINITIONS)
def test_a_definition_keeps_its_revision_over_the_wire(definition: Definition) -> None:
    back = definition_of(to_native(definition_to_message(definition)))
    assert revision_of(back) == revision_of(definition)
