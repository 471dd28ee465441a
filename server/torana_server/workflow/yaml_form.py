"""The YAML form of a definition: the JSON form, written for people.

Scalars are read as JSON reads them: numbers in JSON's grammar, `true` and `false`, `null` and `~`. Everything else is
text, so `on`, `yes`, `012`, `2024-01-01` and `1:30` stay what they look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from torana_server.core.errors import InvalidWorkflowError, Violation
from torana_server.workflow.definition import Definition
from torana_server.workflow.forms import from_form, to_form

_RESOLVERS = {
    "tag:yaml.org,2002:int": (re.compile(r"-?(?:0|[1-9][0-9]*)"), "-0123456789"),
    "tag:yaml.org,2002:float": (re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"), "-0123456789"),
    "tag:yaml.org,2002:bool": (re.compile(r"true|false"), "tf"),
    "tag:yaml.org,2002:null": (re.compile(r"~|null|"), ["~", "n", ""]),
    "tag:yaml.org,2002:merge": (re.compile(r"<<"), "<"),
}


class _Loader(yaml.SafeLoader):
    """Refuses repeated keys, which YAML forbids and PyYAML does not notice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what this reader or any YAML 1.1 reader would take for something other than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = {}


def _whole_scalar(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern.pattern})\Z")


for _tag, (_pattern, _first) in _RESOLVERS.items():
    _Loader.add_implicit_resolver(_tag, _whole_scalar(_pattern), list(_first))
    _Dumper.add_implicit_resolver(_tag, _whole_scalar(_pattern), list(_first))


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Source text reads best as a block. YAML folds line breaks beyond \\n unless they are escaped within quotes."""
    if not all(character == "\n" or character.isprintable() for character in text):
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _write_text)


def to_yaml(definition: Definition) -> str:
    """YAML text that `from_yaml` reads back without loss."""
    return yaml.dump(to_form(definition), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def from_yaml(text: str) -> Definition:
    """The definition a YAML text holds. Raises InvalidWorkflowError, each problem with its path and line."""
    try:
        node, form = _loaded(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidWorkflowError("the definition is not YAML", violations=[_syntax_violation(error)]) from None
    try:
        return from_form(form)
    except InvalidWorkflowError as error:
        raise _with_lines(error, node) from None


def located(error: InvalidWorkflowError, text: str) -> InvalidWorkflowError:
    """What is wrong with the definition that `text` holds, each problem with its line."""
    return _with_lines(error, _loaded(text)[0])


def _loaded(text: str) -> tuple[yaml.Node | None, object]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return node, loader.construct_document(node) if node is not None else None
    finally:
        loader.dispose()


def _with_lines(error: InvalidWorkflowError, node: yaml.Node | None) -> InvalidWorkflowError:
    lines = dict(_lines(node, "", frozenset()))
    return InvalidWorkflowError(error.message, violations=[_with_line(one, lines) for one in error.violations])


def _syntax_violation(error: Exception) -> Violation:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return Violation(
            f"line {mark.line + 1}, column {mark.column + 1}", " ".join(filter(None, (error.context, error.problem)))
        )
    return Violation("", "is nested too deep" if isinstance(error, RecursionError) else str(error))


def _with_line(violation: Violation, lines: dict[str, int]) -> Violation:
    path = violation.path
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return Violation(violation.path, f"{violation.message} (line {lines[path]})") if path in lines else violation


def _lines(node: yaml.Node | None, path: str, above: frozenset[int]) -> Iterator[tuple[str, int]]:
    """The line of each path. `above` breaks the circles that aliases can make."""
    if node is None or id(node) in above:
        return
    yield path, node.start_mark.line + 1
    inside = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for index, element in enumerate(node.value):
            yield from _lines(element, f"{path}[{index}]", inside)
    elif isinstance(node, yaml.MappingNode):
        for key, member in node.value:
            inner = f"{path}.{key.value}" if path else str(key.value)
            yield from _lines(member, inner, inside)
            yield inner, key.start_mark.line + 1
