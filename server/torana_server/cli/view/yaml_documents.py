"""YAML for people and programs: the same values as in JSON, text of several lines as blocks."""

from __future__ import annotations

import json
from typing import Any

import yaml

from torana_server.cli.view.json_lines import value_json


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Lists stand under their key, indented."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """A block where one shows the text as it is; anything unprintable is escaped within quotes."""
    if not all(character == "\n" or character.isprintable() for character in text):
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def yaml_text(value: object) -> str:
    """One document, ended by a line feed. Any YAML reader gets from it what JSON would have given."""
    plain = json.loads(value_json(value))
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120).removesuffix("...\n")
