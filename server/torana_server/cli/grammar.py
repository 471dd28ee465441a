"""How commands are declared, how their help reads and how what is typed wrong is told.

Help is plain text of 80 columns at most, the same on a terminal and in a pipe.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from torana_server.cli import output
from torana_server.cli.connection import PANEL, Connection
from torana_server.cli.exits import Exit, leave_reader

NAMES = {"help_option_names": ["-h", "--help"]}
OPTIONS = "Options"
COMMANDS = "Commands"

Function = TypeVar("Function", bound=Callable[..., None])


def group(help_text: str) -> typer.Typer:
    """A command that only holds others."""
    return typer.Typer(cls=Group, no_args_is_help=True, context_settings=NAMES, help=help_text)


def command(
    to: typer.Typer, name: str, *, panel: str | None = None, examples: Sequence[str] = ()
) -> Callable[[Function], Function]:
    """Declares the function it decorates as the command `name`. Each example is a line as it is typed."""
    epilog = "\n".join(examples) or None
    return to.command(name, cls=Command, context_settings=NAMES, epilog=epilog, rich_help_panel=panel)


class _Help:
    """`format_help` for commands and groups."""

    def format_help(self, context: Any, formatter: Any) -> None:
        this: Any = self
        this.format_usage(context, formatter)
        this.format_help_text(context, formatter)
        for title, rows in _sections(this, context):
            with formatter.section(title):
                formatter.write_dl(rows)
        if this.epilog:
            with formatter.section("Examples"):
                for line in this.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Command(_Help, TyperCommand):
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [one for one in self.params if one.param_type_name == "argument"]
        return ["[OPTIONS]", *(_usage(one) for one in arguments)]


class Group(_Help, TyperGroup):
    """`is_debug` is set by the option of the outermost group: a defect then shows its traceback."""

    is_debug = False
    order: Sequence[str] = ()
    """Names of commands as help lists them; others follow."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = list(self.commands)
        return sorted(names, key=lambda name: self.order.index(name) if name in self.order else len(names))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Ends with one of `Exit`, whatever happens."""
        sys.exit(self._code(args, prog_name, complete_var, **extra))

    def _code(self, args: Sequence[str] | None, prog_name: str | None, complete_var: str | None, **extra: Any) -> int:
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except typer.TyperException as error:
            _report_usage(error)
            return Exit.USAGE
        except (typer.Abort, KeyboardInterrupt):
            output.note("interrupted")
            return Exit.INTERRUPTED
        except BrokenPipeError:
            leave_reader()
            return Exit.READER_GONE
        except Exception as error:  # noqa: BLE001 — the last resort: told as a defect, with its traceback on request
            self._report_defect(error)
            return Exit.DEFECT
        return int(code or Exit.COMPLETED)

    def _report_defect(self, error: Exception) -> None:
        if self.is_debug:
            sys.stderr.write(traceback.format_exc())
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        more = "" if self.is_debug else "\nFor the whole story run it again as `torana --debug …`."
        output.report(f"a defect of this command: {what}\nPlease report it, with what you ran and what it said.{more}")


def _report_usage(error: typer.TyperException) -> None:
    """`context` is None for what no command of ours said."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error.message}\n")
        return
    said = error.message.rstrip(".")
    nearest = getattr(error, "possibilities", None)
    if nearest:
        said += f". Did you mean {' or '.join(nearest)}?"
    elif context is not None and context.parent is None and _is_of_connection(said):
        said += "; it goes after the command, as in `torana health --address …`"
    elif nearest is None:
        said = error.format_message().rstrip(".").replace("Value error, ", "")
    path = context.command_path if context else "torana"
    output.report(f"{said[:1].lower()}{said[1:]}\nSee `{path} --help`.")


def _is_of_connection(said: str) -> bool:
    return any(said.endswith(f" --{name.replace('_', '-')}") for name in Connection.__slots__)


def _sections(of: Any, context: Any) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    shown = [parameter for parameter in of.get_params(context) if not getattr(parameter, "hidden", False)]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    if arguments:
        yield "Arguments", [(_argument(one), _meaning(one)) for one in arguments]
    if hasattr(of, "commands"):
        named = (
            (getattr(one, "rich_help_panel", None) or COMMANDS, one)
            for one in map(of.commands.get, of.list_commands(context))
        )
        for title, commands in _gathered(named):
            yield title, [(one.name, one.get_short_help_str(limit=100)) for one in commands if not one.hidden]
    options = [one for one in shown if one.param_type_name == "option"]
    titled = ((getattr(one, "rich_help_panel", None) or OPTIONS, one) for one in options)
    for title, members in sorted(_gathered(titled), key=lambda section: section[0] == PANEL):
        yield title, [(_option(one), _meaning(one)) for one in members]


def _gathered(titled: Iterable[tuple[str, Any]]) -> list[tuple[str, list[Any]]]:
    """By title, in the order in which the titles come first."""
    pairs = list(titled)
    order = list(dict.fromkeys(title for title, _ in pairs))
    ranked = sorted(pairs, key=lambda pair: order.index(pair[0]))
    return [(title, [one for _, one in members]) for title, members in groupby(ranked, key=lambda pair: pair[0])]


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _usage(parameter: Any) -> str:
    name = _argument(parameter)
    shown = name if parameter.required or name.startswith("[") else f"[{name}]"
    return shown if parameter.nargs == 1 else f"{shown}..."


def _option(parameter: Any) -> str:
    """Short forms first; long ones stand below each other whether or not there is a short one."""
    short = [name for name in parameter.opts if not name.startswith("--")]
    long = [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")]
    value = "" if parameter.is_flag else f" {parameter.metavar or _value(parameter)}"
    return f"{', '.join((*short, *long))}{value}" if short else f"    {', '.join(long)}{value}"


def _value(parameter: Any) -> str:
    """The last word of the option's own name."""
    return str(parameter.opts[0].rpartition("-")[2].upper())


def _meaning(parameter: Any) -> str:
    facts = [f"${parameter.envvar}"] if getattr(parameter, "envvar", None) else []
    default = parameter.default
    if parameter.required:
        facts.append("required")
    elif default not in (None, "", False, 0) and not callable(default) and getattr(parameter, "show_default", True):
        facts.append(f"default: {getattr(default, 'value', default)}")
    told = f" [{'; '.join(facts)}]" if facts else ""
    return f"{parameter.help or ''}{told}"
