"""Python source as the body of an `async` function.

The statements of the source become the body of one function whose parameters are the inputs, so inputs are ordinary
local names. Line numbers and columns stay those of the source.
"""

from __future__ import annotations

import ast
import keyword
import linecache
import re
import textwrap
import unicodedata
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from types import CodeType, TracebackType

from torana_server.core.errors import Violation
from torana_server.steps.imports import ImportPolicy
from torana_server.steps.source_names import SourceNames, find_names

FILENAME_START = "<step "
"""How the file names of source steps begin in tracebacks: `<step user_etl.extract>`."""

PROTECTED_NAMES = frozenset({"get_resource", "context", "logger"})
"""Provided names that no input shadows."""

_NAME_IN_MESSAGE = re.compile(r"local variable '([^']+)'")


@dataclass(frozen=True, eq=False)
class StepSource:
    """A parsed source. `eq=False`: one is the same only as itself, so it can key a cache cheaply."""

    name: str
    filename: str
    body: list[ast.stmt]
    names: SourceNames


def parse_source(source: str, *, name: str, filename: str) -> StepSource:
    """Raises SyntaxError, or ValueError for text that is no source (NUL characters, lone surrogates)."""
    body = ast.parse(textwrap.dedent(source), filename).body
    names = find_names(body)
    if names.yields_at is not None:
        line, column = names.yields_at
        message = "'yield' is refused in a step: return the whole output, or hand out parts of it with emit"
        raise SyntaxError(message, (filename, line, column, None))
    return StepSource(name, filename, body, names)


def register_lines(source: str, *, workflow: str, step: str, revision: str) -> str:
    """Makes tracebacks show the lines of the source. Returns the file name to compile it with.

    Two revisions that run side by side get two names, so neither shows the lines of the other.
    """
    lines = [f"{line}\n" for line in textwrap.dedent(source).splitlines()]
    filename = f"{FILENAME_START}{workflow}.{step}>"
    known = linecache.cache.get(filename)
    if known is not None and len(known) > 1 and known[2] != lines:  # an entry of one item is lazy
        filename = f"{FILENAME_START}{workflow}.{step}@{revision[:12]}>"
    linecache.cache[filename] = (len(source), None, lines, filename)
    return filename


def forget_lines_with(source: StepSource) -> None:
    """Drops the registered lines when nothing uses the source any more."""
    lines = linecache.cache.get(source.filename)
    weakref.finalize(source, _forget_lines, source.filename, lines).atexit = False


def _forget_lines(filename: str, lines: object) -> None:
    if linecache.cache.get(filename) is lines:  # not those that a later parse of the same source has registered
        linecache.cache.pop(filename, None)


def compile_source(source: StepSource, parameters: Iterable[str] = ()) -> CodeType:
    """The code of an `async` function with these parameters. Raises SyntaxError."""
    module = ast.parse("async def step(): pass")
    function = module.body[0]
    assert isinstance(function, ast.AsyncFunctionDef)
    function.name = source.name
    function.args.kwonlyargs = [ast.arg(name) for name in parameters]
    function.args.kw_defaults = [None] * len(function.args.kwonlyargs)
    function.body = [*source.body, *_epilogue(source)] or function.body
    code = compile(ast.fix_missing_locations(module), source.filename, "exec")
    return next(constant for constant in code.co_consts if isinstance(constant, CodeType))


def _epilogue(source: StepSource) -> list[ast.stmt]:
    """A source that assigns `result` returns it at its end. Names nothing, so nothing can be shadowed."""
    if "result" not in source.names.bound | source.names.declared_global:
        return []
    return ast.parse("try:\n    return result\nexcept:\n    pass").body


def can_be_local(name: str) -> bool:
    """Whether an input of this name becomes a local name; the others are had by `ctx.inputs` only.

    Python reads identifiers in their NFKC form, so it could not find one that is spelled otherwise.
    """
    return (
        name.isidentifier()
        and not keyword.iskeyword(name)
        and name not in PROTECTED_NAMES
        and name != "__debug__"
        and (name.isascii() or unicodedata.is_normalized("NFKC", name))
    )


def problems_of(source: str, policy: ImportPolicy) -> list[Violation]:
    """Why the source cannot run, with line and column; empty when it can."""
    if not source.strip():
        return [Violation("source", "is empty; write at least one statement")]
    try:
        parsed = parse_source(source, name="step", filename="<source>")
        compile_source(parsed)
    except SyntaxError as error:
        return [Violation("source", f"{_place(error)}: {error.msg}")]
    except ValueError as error:
        return [Violation("source", f"is not Python source: {error}")]
    except (RecursionError, MemoryError):
        return [Violation("source", "is nested too deeply to compile")]
    return [
        Violation("source", f"line {line}, column {column}: {policy.refusal(module)}")
        for module, (line, column) in parsed.names.imports
        if not policy.allows(module)
    ]


def _place(error: SyntaxError) -> str:
    return f"line {error.lineno or 1}, column {error.offset or 1}"


def unsupplied_input(error: NameError, source: StepSource, code: CodeType) -> str | None:
    """The input that was read though nobody supplied it; None when the error is a mistake of another kind.

    A name can be an input when the source's own top level has no value for it at that point of its text: it is never
    bound there, or read before it is bound. `code` is the compiled source, whose frame is the top level.
    """
    frame = _last_frame(error)
    if frame is None or frame.co_filename != source.filename:
        return None
    if isinstance(error, UnboundLocalError):
        match = _NAME_IN_MESSAGE.search(str(error))
        return match[1] if match and frame is code and match[1] in source.names.read_first else None
    name: str | None = error.name
    if name is None or name in source.names.declared_global:
        return None
    if name in source.names.bound:
        return name if name in source.names.read_first else None
    return None if name in frame.co_freevars else name


def _last_frame(error: BaseException) -> CodeType | None:
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else trace.tb_frame.f_code
