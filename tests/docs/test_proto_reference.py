"""docs/proto.md has all that the generated code has, whatever wrote it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor

from docs.pages import ROOT

PROTOS = sorted(path.stem for path in (ROOT / "proto/torana/v1").glob("*.proto"))


def contract(name: str) -> FileDescriptor:
    descriptor: FileDescriptor = importlib.import_module(f"torana.v1.{name}_pb2").DESCRIPTOR
    return descriptor


def within(prefix: str, message: Descriptor) -> Iterator[tuple[str, list[str]]]:
    """The message and all within it, each with the names that its table must have."""
    name = f"{prefix}{message.name}"
    oneofs = [oneof.name for oneof in message.oneofs if not oneof.name.startswith("_")]  # those make `optional` fields
    yield name, [*(field.name for field in message.fields), *oneofs]
    for enum in message.enum_types:
        yield f"{name}.{enum.name}", values(enum)
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            yield from within(f"{name}.", nested)


def values(enum: EnumDescriptor) -> list[str]:
    return [value.name for value in enum.values]


def elements(file: FileDescriptor) -> Iterator[tuple[str, list[str]]]:
    for service in file.services_by_name.values():
        yield service.name, [method.name for method in service.methods]
    for enum in file.enum_types_by_name.values():
        yield enum.name, values(enum)
    for message in file.message_types_by_name.values():
        yield from within("", message)


def sections() -> dict[str, str]:
    text = (ROOT / "docs/proto.md").read_text("utf-8").replace("<!-- end of reference -->", "")
    parts = re.split(r"^###? (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", PROTOS)
def test_everything_of_the_contract_is_described(name: str) -> None:
    described = sections()
    assert f"{name}.proto" in described
    for element, parts in elements(contract(name)):
        said, _, table = described[element].strip().partition("\n\n")
        assert said, element
        rows = {row.split(" | ")[0].strip("|… `"): row.split(" | ")[-1] for row in table.splitlines()[2:]}
        assert sorted(rows) == sorted(parts), element
        assert [part for part, meaning in rows.items() if not meaning.strip("| ")] == [], element


def test_every_type_of_the_contract_leads_to_its_section() -> None:
    anchors = {name.lower().replace(".", "") for name in sections()}
    links = re.findall(r"\]\(#(\w+)\)", (ROOT / "docs/proto.md").read_text("utf-8"))
    assert len(links) > len(PROTOS)
    assert set(links) <= anchors
