"""Writes the reference parts of docs/ and the schema of workflow files from the code and the contract, so that they
cannot fall behind.

    python tools/docs_reference.py            # rewrite what is out of date
    python tools/docs_reference.py --check    # only say what is, and exit with 1

A page marks where a part goes, on lines of their own: `<!-- reference: NAME -->` and `<!-- end of reference -->`.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from proto_reference import proto_reference  # type: ignore[import-not-found] # found beside this script
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from torana_server.cli.connection import PANEL
from torana_server.cli.exits import MEANINGS
from torana_server.cli.root import app
from torana_server.resources.types.cache import CacheConfig
from torana_server.resources.types.database import DatabaseConfig
from torana_server.resources.types.http_client import HttpClientConfig
from torana_server.settings import Settings, variable
from torana_server.steps import FunctionRegistry, StepThreads, built_in_types
from torana_server.workflow import StepSchema, definition_schema, json_schema

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PROTO = ROOT / "proto/torana/v1"
SCHEMA = ROOT / "schemas/workflow.schema.json"
LIMITS = ROOT / "server/torana_server/core/limits.py"

MARKED = re.compile(
    r"(?<=^<!-- reference: )([a-z_]+)( -->\n).*?(?=^<!-- end of reference -->$)", re.DOTALL | re.MULTILINE
)


def main(arguments: list[str]) -> int:
    wanted = {path: current(path) for path in sorted(DOCS.glob("*.md"))} | {SCHEMA: workflow_schema()}
    stale = {path: text for path, text in wanted.items() if not path.exists() or text != path.read_text("utf-8")}
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run `make docs` and commit it")
        return 1 if stale else 0
    for path, text in stale.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        print(f"rewrote {path.relative_to(ROOT)}")
    return 0


def current(path: Path) -> str:
    """The page with its marked parts as they should be. Raises KeyError for a name that no part has."""
    return MARKED.sub(lambda mark: f"{mark[1]}{mark[2]}\n{PARTS[mark[1]]()}\n", path.read_text("utf-8"))


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table, with a line feed at its end."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *([_cell(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# settings and config models


def settings_table() -> str:
    rows = (
        (f"`{variable(name)}`", default, f"{bounds}{unit(name)}", text)
        for name, _, default, bounds, text in model_rows(Settings)
    )
    return table(["variable", "default", "values", "meaning"], rows)


def unit(name: str) -> str:
    """What a number is in, as its setting's name says."""
    for part, written in (("_bytes", " bytes"), ("_ms", " ms"), ("_s", " s")):
        if name.removesuffix("_max").endswith(part):
            return written
    return ""


def settings_file() -> str:
    """A file with every setting at its default; what has none is commented out."""
    lines = []
    for name, schema, _, bounds, text in model_rows(Settings):
        default = Settings.model_fields[name].get_default(call_default_factory=True, validated_data={})
        given = _toml(default if default is not None else _of_kind(schema))
        mark = "# " if default is None else ""
        allowed = f"{bounds}{unit(name)}".replace("`", "")
        lines += [f"# {text} ({allowed})", f"{mark}{name} = {given}", ""]
    return "```toml\n" + "\n".join(lines).rstrip("\n") + "\n```\n"


def _toml(value: object) -> str:
    plain = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    return json.dumps(plain, ensure_ascii=False)


def _of_kind(schema: Mapping[str, Any]) -> object:
    """Something to write where there is no default."""
    kinds = {one.get("type") for one in schema.get("anyOf", [schema])}
    return 60 if kinds & {"number", "integer"} else "…"


def config_table(model: type[BaseModel]) -> Callable[[], str]:
    def written() -> str:
        rows = ((f"`{name}`", default, bounds, text) for name, _, default, bounds, text in model_rows(model))
        return table(["setting", "default", "values", "meaning"], rows)

    return written


def model_rows(model: type[BaseModel]) -> Iterator[tuple[str, Mapping[str, Any], str, str, str]]:
    """Name, schema, default, allowed values and description of each field, in the order of the source."""
    for name, schema in model.model_json_schema()["properties"].items():
        field = model.model_fields[name]
        default = field.get_default(call_default_factory=True, validated_data={})
        yield name, schema, _default(default), _values(schema), schema.get("description", "")


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ("", (), [], {}):
        return "none"
    plain = json.dumps(value) if isinstance(value, bool | int | float) else str(value)
    return f"`{plain.removesuffix('.0')}`"


def _values(schema: Mapping[str, Any]) -> str:
    """What a JSON Schema allows, for people."""
    if "anyOf" in schema:
        kinds = [_values(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return ", or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    match schema.get("type"):
        case "boolean":
            return "`true`, `false`"
        case "integer" | "number":
            return _range(schema)
        case "array":
            return f"list of: {_values(schema['items'])}"
        case "object":
            return "object of text"
        case _:
            return {"path": "path", "password": "secret text"}.get(schema.get("format", ""), _text(schema))


def _range(schema: Mapping[str, Any]) -> str:
    low, above, high = schema.get("minimum"), schema.get("exclusiveMinimum"), schema.get("maximum")
    if above is not None:
        return f"above {above:,}" + ("" if high is None else f", to {high:,}")
    return f"{low:,} or more" if high is None else f"{low:,} to {high:,}"


def _text(schema: Mapping[str, Any]) -> str:
    longest = schema.get("maxLength")
    return "text" if longest is None else f"text, at most {longest:,} characters"


# the form of a definition


def definition_table() -> str:
    schema = json_schema()
    parts = {"": schema, **{f"{name}.": schema["$defs"][name] for name in ("Step", "Connection", "Retry", "Timeout")}}
    return "\n".join(_definition_part(prefix.rstrip("."), part) for prefix, part in parts.items())


def _definition_part(name: str, schema: Mapping[str, Any]) -> str:
    heading = {"": "The workflow", "Step": "`steps[…]`", "Connection": "`connections[…]`"}
    heading |= {"Retry": "`retry`, of the workflow or of a step"}
    heading |= {"Timeout": "`timeout` of a step, unless it is a duration alone: that of one attempt"}
    schema = next((one for one in schema.get("anyOf", ()) if "properties" in one), schema)
    required = schema.get("required", [])
    rows = (
        (f"`{key}`", "required" if key in required else _form_default(one), _described(one))
        for key, one in schema["properties"].items()
    )
    return f"**{heading[name]}**\n\n{table(['key', 'default', 'meaning'], rows)}"


def _described(schema: Mapping[str, Any]) -> str:
    """What is said of a key, or else of what it refers to."""
    refers = next((one["$ref"] for one in (schema, *schema.get("anyOf", ())) if "$ref" in one), "")
    referred = json_schema()["$defs"][refers.rpartition("/")[2]] if refers else {}
    return str(schema.get("description") or referred.get("description", ""))


def _form_default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    return "none" if default in (None, "", [], {}) else f"`{json.dumps(default)}`".replace('"', "").replace(".0`", "`")


def workflow_schema() -> str:
    """For editors: the form of a workflow file, with the types of step that every server has."""
    types = built_in_types(FunctionRegistry(), StepThreads(1))
    schema = definition_schema(StepSchema(one.name, one.description, one.config_schema()) for one in types)
    return json.dumps(schema, indent=2) + "\n"


# the contract


def reasons_table() -> str:
    rows = ((f"`{name}`", *meaning_and_example(comment)) for name, comment in reasons())
    return table(["reason", "comes as", "meaning", "metadata, for example"], rows)


def reasons() -> Iterator[tuple[str, str]]:
    """Each reason but UNSPECIFIED, and its comment in the contract."""
    text = (PROTO / "error_reason.proto").read_text("utf-8")
    for comment, name in re.findall(r"((?:^ +//.*\n)+) +ERROR_REASON_([A-Z_]+) =", text, re.MULTILINE):
        if name != "UNSPECIFIED":
            yield name, " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())


def meaning_and_example(comment: str) -> tuple[str, str, str]:
    """How it arrives, what it means, and the example of its metadata. Raises ValueError for another form."""
    found = re.fullmatch(r"(.+?)(?:\. (.+)| (when .+)) Metadata example: (\{.*\})\.", comment)
    if found is None:
        raise ValueError(f"the comment of an error reason has another form: {comment}")
    return found[1], found[2] or found[3].capitalize(), "" if found[4] == "{}" else f"`{found[4]}`"


def events_table() -> str:
    text = (PROTO / "event.proto").read_text("utf-8")
    kinds = re.findall(r"^    // (.+)\n    (\w+) (\w+) = \d+;", text, re.MULTILINE)
    return table(["kind", "message", "meaning"], ((f"`{kind}`", f"`{name}`", why) for why, name, kind in kinds))


def rpcs_table() -> str:
    rows = []
    for path in sorted(PROTO.glob("*_service.proto")):
        service = re.search(r"^service (\w+)", text := path.read_text("utf-8"), re.MULTILINE)
        assert service is not None, f"{path.name} holds no service"
        for comment, name, stream in re.findall(
            r"((?:^  //.*\n)+)  rpc (\w+)\(\w+\) returns \((stream )?", text, re.MULTILINE
        ):
            said = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
            rows.append((f"`{service[1]}`", f"`{name}`" + (" (stream)" if stream else ""), said))
    return table(["service", "RPC", "what it does"], rows)


def limits_table() -> str:
    """The constants of `core/limits.py` with the text below each."""
    rows = []
    body = ast.parse(LIMITS.read_text("utf-8")).body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            name = statement.target.id
            if name in ("KIB", "MIB"):
                continue
            said = following.value if isinstance(following, ast.Expr) else None
            text = said.value if isinstance(said, ast.Constant) else ""
            rows.append((name.removesuffix("_MAX").replace("_", " ").capitalize(), _amount(statement.value), str(text)))
    return table(["limit", "value", "meaning"], rows)


def _amount(value: ast.expr) -> str:
    if isinstance(value, ast.BinOp):
        assert isinstance(value.left, ast.Constant), "a limit with a unit is a number times it"
        assert isinstance(value.right, ast.Name), "a limit with a unit is a number times it"
        return f"{ast.literal_eval(value.left)} {value.right.id.title().replace('ib', 'iB')}"
    return f"{ast.literal_eval(value):,}"


# the command line


def commands_part() -> str:
    found = list(commands(typer.main.get_command(app)))
    shared = [parameter for parameter in dict(found)["torana watch"].params if _is_shared(parameter)]
    parts = [_command(name, command) for name, command in found]
    reach = "Every command that talks to a server also takes these.\n\n" + _options(shared)
    return "\n".join([*parts, f"## Reaching a server\n\n{reach}"])


def commands(group: Any, prefix: str = "torana") -> Iterator[tuple[str, Any]]:
    """Every command that does something, under its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def _command(name: str, command: Any) -> str:
    own = [parameter for parameter in command.params if parameter.name != "help" and not _is_shared(parameter)]
    said = re.sub(r"\n{3,}", "\n\n", command.help.strip())
    examples = f"\n```text\n{command.epilog}\n```\n" if command.epilog else ""
    return f"## {name}\n\n{said}\n{examples}" + (f"\n{_options(own)}" if own else "")


def exits_table() -> str:
    return table(["code", "meaning"], ((f"`{code.value}`", meaning) for code, meaning in MEANINGS.items()))


def _is_shared(parameter: Any) -> bool:
    return getattr(parameter, "rich_help_panel", None) == PANEL


def _options(parameters: Iterable[Any]) -> str:
    return table(["argument or option", "meaning"], ((_written(one), _meaning(one)) for one in parameters))


def _written(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name).upper()}`"
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return ", ".join(f"`{option}{value}`" for option in parameter.opts)


def _meaning(parameter: Any) -> str:
    default = f" Default: {_default(parameter.default)}." if parameter.default else ""
    variable = f" Variable: `{parameter.envvar}`." if parameter.envvar else ""
    return f"{parameter.help or ''}{' Required.' if parameter.required else ''}{variable}{default}"


PARTS: Mapping[str, Callable[[], str]] = {
    "settings": settings_table,
    "settings_file": settings_file,
    "limits": limits_table,
    "database": config_table(DatabaseConfig),
    "http_client": config_table(HttpClientConfig),
    "cache": config_table(CacheConfig),
    "definition": definition_table,
    "reasons": reasons_table,
    "events": events_table,
    "rpcs": rpcs_table,
    "protos": proto_reference,
    "commands": commands_part,
    "exits": exits_table,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
