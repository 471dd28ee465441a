"""Templates in config and static inputs: paths into what a run knows. Nothing is evaluated.

    ${parameters.x}  ${x}      the request's parameters
    ${context.user}            the request's context
    ${session.tenant_id}       who is calling
    ${env.NAME}                what the operator allows
    {{step.path}}              a step's output, after that step

A string that is one template keeps the value's type. Inside longer strings text stays as it is and everything else
becomes its JSON text. What a template brings in is not expanded again. `$${` and `{{{{` stand for `${` and `{{`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torana_server.core.errors import Reason, StepError, Violation
from torana_server.core.values import Payload, decode, decode_plain, encode
from torana_server.workflow.outcome import Outcome
from torana_server.workflow.paths import Path, PathNotFoundError, look_up, parse_path, within_output


class Root(enum.StrEnum):
    """Where the path of a template starts."""

    PARAMETERS = "parameters"
    CONTEXT = "context"
    SESSION = "session"
    ENV = "env"
    STEP = "step"


_NAMED_ROOTS = {root.value: root for root in Root if root is not Root.STEP}


@dataclass(frozen=True, slots=True)
class Reference:
    """One template. `text` is as written, for messages; `step` only with `Root.STEP`."""

    text: str
    root: Root
    path: Path
    step: str = ""


@dataclass(frozen=True, slots=True)
class _Constant:
    value: object


@dataclass(frozen=True, slots=True)
class _Text:
    parts: tuple[str | Reference, ...]


@dataclass(frozen=True, slots=True)
class _Array:
    elements: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Object:
    members: Mapping[str, _Node]


_Node = _Constant | Reference | _Text | _Array | _Object


@dataclass(frozen=True, slots=True)
class Template:
    """A JSON object whose templates are parsed. `steps` are those it refers to, in the order of first mention."""

    members: Mapping[str, _Node]
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TemplateScope:
    """What an execution knows from its start. `session` holds tenant_id, user_id and session_id."""

    parameters: Payload = field(default_factory=lambda: Payload("{}"))
    context: Payload = field(default_factory=lambda: Payload("{}"))
    session: Mapping[str, object] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


# compiling


def compile_template(
    config: Mapping[str, object], path: str, literal_fields: frozenset[str] = frozenset()
) -> tuple[Template, list[Violation]]:
    """The templates of a JSON object, and what is wrong with their syntax. `literal_fields` are left as they are."""
    problems: list[Violation] = []
    members = {
        key: _Constant(value) if key in literal_fields else _compile(value, f"{path}.{key}", problems)
        for key, value in config.items()
    }
    references = (reference for node in members.values() for reference in _references(node))
    steps = dict.fromkeys(reference.step for reference in references if reference.root is Root.STEP)
    return Template(members, tuple(steps)), problems


def holds_template(text: str) -> bool:
    """Whether a string holds a template, so that its value is only known when the step runs."""
    return any(isinstance(part, Reference) for part in _parse(text, "", []))


def _compile(value: object, path: str, problems: list[Violation]) -> _Node:
    if isinstance(value, str):
        return _compile_text(value, path, problems)
    if isinstance(value, Mapping):
        members = {key: _compile(member, f"{path}.{key}", problems) for key, member in value.items()}
        return _Constant(dict(_values(members))) if _all_constant(members.values()) else _Object(members)
    if isinstance(value, list | tuple):
        elements = [_compile(element, f"{path}[{index}]", problems) for index, element in enumerate(value)]
        if _all_constant(elements):
            return _Constant([element.value for element in elements if isinstance(element, _Constant)])
        return _Array(tuple(elements))
    return _Constant(value)


def _all_constant(nodes: Iterable[_Node]) -> bool:
    return all(isinstance(node, _Constant) for node in nodes)


def _values(members: Mapping[str, _Node]) -> Iterator[tuple[str, object]]:
    return ((key, node.value) for key, node in members.items() if isinstance(node, _Constant))


def _compile_text(text: str, path: str, problems: list[Violation]) -> _Node:
    if "${" not in text and "{{" not in text:
        return _Constant(text)
    parts = _parse(text, path, problems)
    if len(parts) == 1 and isinstance(parts[0], Reference):
        return parts[0]
    if any(isinstance(part, Reference) for part in parts):
        return _Text(tuple(parts))
    return _Constant("".join(part for part in parts if isinstance(part, str)))


_MARK = re.compile(r"\$\$\{|\{\{\{\{|\$\{|\{\{")
_LITERALS = {"$${": "${", "{{{{": "{{"}
_ENDS = {"${": "}", "{{": "}}"}
_BODY = re.compile(r"(?:\\.|[\w-])+(?:\.(?:\\.|[\w-])+)*")


def _parse(text: str, path: str, problems: list[Violation]) -> list[str | Reference]:
    parts: list[str | Reference] = []
    position = 0
    while mark := _MARK.search(text, position):
        parts.append(text[position : mark.start()])
        if mark[0] in _LITERALS:
            parts.append(_LITERALS[mark[0]])
            position = mark.end()
            continue
        end = text.find(_ENDS[mark[0]], mark.end())
        position = end + len(_ENDS[mark[0]]) if end >= 0 else len(text)
        written = text[mark.start() : position]
        reference = _reference(mark[0], text[mark.end() : end].strip(), written) if end >= 0 else None
        if reference is None:
            problem = "holds something other than a dotted path" if end >= 0 else "does not end"
            problems.append(Violation(path, f"the template {written[:80]!r} {problem}; {_hint(mark[0])}"))
        else:
            parts.append(reference)
    parts.append(text[position:])
    return [part for part in parts if part]


def _hint(mark: str) -> str:
    escaped = next(escape for escape, literal in _LITERALS.items() if literal == mark)
    return f"write {escaped!r} where the text {mark!r} itself is meant"


def _reference(mark: str, body: str, text: str) -> Reference | None:
    if not _BODY.fullmatch(body):
        return None
    path = parse_path(body)
    if mark == "{{":
        return Reference(text, Root.STEP, within_output(path[1:]), step=path[0])
    root = _NAMED_ROOTS.get(path[0])
    return Reference(text, root, path[1:]) if root else Reference(text, Root.PARAMETERS, path)


def _references(node: _Node) -> Iterator[Reference]:
    match node:
        case Reference():
            yield node
        case _Text(parts):
            yield from (part for part in parts if isinstance(part, Reference))
        case _Array(elements):
            for element in elements:
                yield from _references(element)
        case _Object(members):
            for member in members.values():
                yield from _references(member)


# rendering


class Sources:
    """What templates read from, each decoded once and only when a template asks for it."""

    __slots__ = ("_decoded", "_outcomes", "_scope")

    def __init__(self, scope: TemplateScope, outcomes: Mapping[str, Outcome]) -> None:
        self._scope = scope
        self._outcomes = outcomes
        self._decoded: dict[str, object] = {}

    def value(self, reference: Reference) -> object:
        """A fresh value. Raises StepError (TEMPLATE_ERROR) naming the template and the keys there are."""
        try:
            return fresh(look_up(self._root(reference), reference.path))
        except PathNotFoundError as missing:
            raise _failed(reference, str(missing)) from None

    def _root(self, reference: Reference) -> object:
        if reference.root is Root.SESSION:
            return dict(self._scope.session)
        if reference.root is Root.ENV:
            return dict(self._scope.env)
        key = f"step.{reference.step}" if reference.step else reference.root.value
        if key not in self._decoded:
            self._decoded[key] = decode(self._payload(reference))
        return self._decoded[key]

    def _payload(self, reference: Reference) -> Payload:
        if reference.root is Root.PARAMETERS:
            return self._scope.parameters
        if reference.root is Root.CONTEXT:
            return self._scope.context
        outcome = self._outcomes.get(reference.step)
        if outcome is None or outcome.output is None:
            done = ", ".join(name for name, other in self._outcomes.items() if other.output is not None)
            raise _failed(reference, f"step {reference.step!r} has no output; steps that have one: {done or 'none'}")
        return outcome.output


def render(template: Template, sources: Sources) -> dict[str, Any]:
    """The object with its templates filled in, fresh at each call. Raises StepError (TEMPLATE_ERROR)."""
    return {key: _render(node, sources) for key, node in template.members.items()}


def fresh(value: Any) -> Any:
    """A copy that shares no container with the original."""
    kind = type(value)
    if kind is dict:
        return {key: fresh(member) for key, member in value.items()}
    if kind is list:
        return [fresh(element) for element in value]
    if kind is tuple:
        return tuple(map(fresh, value))
    return set(value) if kind is set else value


def _render(node: _Node, sources: Sources) -> object:
    match node:
        case _Constant(value):
            return fresh(value)
        case Reference():
            return sources.value(node)
        case _Text(parts):
            return "".join(part if isinstance(part, str) else _as_text(sources.value(part)) for part in parts)
        case _Array(elements):
            return [_render(element, sources) for element in elements]
        case _Object(members):
            return {key: _render(member, sources) for key, member in members.items()}


def _as_text(value: object) -> str:
    """Text as it is, everything else as JSON text; what JSON writes as text, such as a date, is text."""
    if isinstance(value, str):
        return value
    payload = encode(value)
    plain = decode_plain(payload)
    return plain if isinstance(plain, str) else payload.json


def _failed(reference: Reference, problem: str) -> StepError:
    return StepError(
        f"the template {reference.text} cannot be filled in: {problem}",
        reason=Reason.TEMPLATE_ERROR,
        metadata={"template": reference.text},
    )
