"""The contract as Markdown: every service, RPC, message, field and enum with its comment."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc_tools  # type: ignore[import-untyped] # ships no types
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[1] / "proto"
PACKAGE = ".torana.v1."
ORDER = (
    "execution_service",
    "execution",
    "event",
    "stream",
    "payload",
    "workflow_service",
    "workflow",
    "resource_service",
    "resource",
    "secret_service",
    "system_service",
    "error_reason",
)
"""Of the files: what a caller meets first comes first. Files not named here follow."""

# The numbers by which google/protobuf/descriptor.proto knows the parts of a path to an element.
FILE_SYNTAX, FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 12, 4, 5, 6
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM, MESSAGE_ONEOF = 2, 3, 4, 8
ENUM_VALUE = SERVICE_METHOD = 2

Place = tuple[int, ...]
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comments:
    """The comments of a file by the place of the element they stand above."""

    file: str
    texts: Mapping[Place, str]

    def of(self, place: Place, name: str) -> str:
        """One line of text. Raises ValueError for an element without a comment."""
        text = " ".join(self.texts.get(place, "").split())
        if not text:
            raise ValueError(f"{self.file}: {name} has no comment")
        return text


def described_files() -> list[FileDescriptorProto]:
    """The files of the contract with their comments."""
    paths = sorted((PROTO / "torana/v1").glob("*.proto"))
    known = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "contract.pb"
        arguments = [
            f"-I{PROTO}",
            f"-I{PROTO}/third_party",
            f"-I{known}",
            "--include_source_info",
            f"--descriptor_set_out={out}",
        ]
        if protoc.main(["protoc", *arguments, *map(str, paths)]):
            raise ValueError("the contract does not compile; `buf lint` says where")
        found = FileDescriptorSet.FromString(out.read_bytes()).file
    names = [Path(file.name).stem for file in found]
    rank = {name: number for number, name in enumerate((*ORDER, *names)[::-1])}
    return sorted(found, key=lambda file: -rank[Path(file.name).stem])


def proto_reference() -> str:
    return "\n".join(_file(file) for file in described_files())


def _file(file: FileDescriptorProto) -> str:
    texts = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    comments = Comments(file.name, texts)
    parts = [f"## {Path(file.name).name}\n\n{comments.of((FILE_SYNTAX,), 'the file')}\n"]
    for number, service in enumerate(file.service):
        parts.append(_service(service, (FILE_SERVICE, number), comments))
    for number, message in enumerate(file.message_type):
        parts.extend(_message(message, message.name, (FILE_MESSAGE, number), comments))
    for number, enum in enumerate(file.enum_type):
        parts.append(_enum(enum, enum.name, (FILE_ENUM, number), comments))
    return "\n".join(parts)


def _service(service: ServiceDescriptorProto, place: Place, comments: Comments) -> str:
    rows = []
    for number, rpc in enumerate(service.method):
        said = comments.of((*place, SERVICE_METHOD, number), f"{service.name}.{rpc.name}")
        answer = ("a stream of " if rpc.server_streaming else "") + _linked(rpc.output_type)
        rows.append((f"`{rpc.name}`", _linked(rpc.input_type), answer, said))
    return _section(
        service.name, comments.of(place, service.name), _table(("RPC", "takes", "answers with", "meaning"), rows)
    )


def _message(message: DescriptorProto, name: str, place: Place, comments: Comments) -> Iterator[str]:
    """The message and after it those within it, but for the entries of maps."""
    rows = list(_fields(message, name, place, comments))
    table = _table(("field", "number", "type", "meaning"), rows) if rows else ""
    yield _section(name, comments.of(place, name), table)
    for number, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _message(nested, f"{name}.{nested.name}", (*place, MESSAGE_NESTED, number), comments)
    for number, enum in enumerate(message.enum_type):
        yield _enum(enum, f"{name}.{enum.name}", (*place, MESSAGE_ENUM, number), comments)


def _fields(message: DescriptorProto, name: str, place: Place, comments: Comments) -> Iterator[Row]:
    """A row a field; before the first of a oneof one for the oneof itself."""
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    begun: set[int] = set()
    for number, field in enumerate(message.field):
        within = field.HasField("oneof_index") and not field.proto3_optional
        if within and field.oneof_index not in begun:
            begun.add(field.oneof_index)
            oneof = message.oneof_decl[field.oneof_index].name
            said = comments.of((*place, MESSAGE_ONEOF, field.oneof_index), f"{name}.{oneof}")
            yield f"`{oneof}`", "", "one of", said
        said = comments.of((*place, MESSAGE_FIELD, number), f"{name}.{field.name}")
        yield ("… " if within else "") + f"`{field.name}`", str(field.number), _field_type(field, entries), said


def _field_type(field: FieldDescriptorProto, entries: Mapping[str, DescriptorProto]) -> str:
    entry = entries.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = entry.field
        return f"map of {_plain_type(key)} to {_plain_type(value)}"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {_plain_type(field)}"
    return ("optional " if field.proto3_optional else "") + _plain_type(field)


def _plain_type(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _linked(field.type_name)
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _enum(enum: EnumDescriptorProto, name: str, place: Place, comments: Comments) -> str:
    rows = []
    for number, value in enumerate(enum.value):
        said = comments.of((*place, ENUM_VALUE, number), f"{name}.{value.name}")
        rows.append((f"`{value.name}`", str(value.number), said))
    return _section(name, comments.of(place, name), _table(("value", "number", "meaning"), rows))


def _linked(type_name: str) -> str:
    """A type of the contract by its name within it, with a link to its section; one of others by its full name."""
    if not type_name.startswith(PACKAGE):
        return f"`{type_name.lstrip('.')}`"
    name = type_name.removeprefix(PACKAGE)
    return f"[{name}](#{name.lower().replace('.', '')})"


def _section(name: str, said: str, table: str) -> str:
    return f"### {name}\n\n{said}\n" + (f"\n{table}" if table else "")


def _table(heads: Row, rows: Sequence[Row]) -> str:
    lines = [heads, ("---",) * len(heads), *(tuple(map(_cell, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
