"""Every durable step in the server's code, found by reading it, and a way to die right before or after each.

A durable step is a call that changes what a restart finds: a statement or checkpoint of SQLite, an operation on files
and folders, a write to the journal's or the vault's port. `install` rewrites the modules that have some as they are
imported, in a process made for it, so that the product holds no trace of this.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final, Literal, TypeVar

SERVER: Final = Path(__file__).parents[2] / "server"
EXIT_CODE: Final = 86
ON_DISK: Final = frozenset({"execute", "wal_checkpoint", "fsync", "link", "unlink", "mkdir", "write"})
ON_JOURNAL: Final = frozenset({"create", "append", "request", "claim", "release", "put_definition"})
ON_STORE: Final = frozenset(
    {"put", "delete", "append_audit", "trim_audit", "add_tenant_key", "rewrap_tenant_key", "add_canary"}
)
MODULES: Final[dict[str, frozenset[str]]] = {
    "adapters.sqlite.database": ON_DISK,
    "adapters.sqlite.folder": ON_DISK,
    "adapters.sqlite.ledger": ON_DISK,
    "adapters.sqlite.schema": ON_DISK,
    "adapters.sqlite.secrets": ON_DISK,
    "adapters.sqlite.writer": ON_DISK,
    "execution.appender": ON_JOURNAL,
    "execution.driving": ON_JOURNAL,
    "execution.engine": ON_JOURNAL,
    "vault.key_sources": ON_DISK,
    "vault.open_vault": ON_STORE,
    "vault.tenant_keys": ON_STORE,
}
READING: Final = frozenset({"_version", "_blocked_revisions"})
"""Functions that only ask."""
OBJECTS: Final = ("_journal", "journal", "_store", "store")
"""What the ports are called in the code that calls them."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Failpoint:
    step: str
    when: Literal["before", "after"]

    def __str__(self) -> str:
        return f"{self.when} {self.step}"


@dataclass(slots=True)
class Finder(ast.NodeTransformer):
    """Wraps the durable calls of a module and notes their names: `module:function:call`, numbered if there are more."""

    module: str
    steps: list[str] = field(default_factory=list)
    _functions: list[str] = field(default_factory=list)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._inside(node, node.name)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._inside(node, node.name)

    def _inside(self, node: ast.AST, name: str) -> ast.AST:
        self._functions.append(name)
        self.generic_visit(node)
        self._functions.pop()
        return node

    def visit_Await(self, node: ast.Await) -> ast.AST:
        call = node.value
        if isinstance(call, ast.Call) and self._is_durable(call):
            self.generic_visit(call)
            return self._wrapped(node, call)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        return self._wrapped(node, node) if self._is_durable(node) else node

    def _is_durable(self, call: ast.Call) -> bool:
        function = call.func
        names = MODULES[self.module]
        if (
            not self._functions
            or self._functions[-1] in READING
            or not isinstance(function, ast.Attribute)
            or function.attr not in names
        ):
            return False
        return names is ON_DISK or ast.unparse(function.value).rpartition(".")[2] in OBJECTS

    def _wrapped(self, node: ast.expr, call: ast.Call) -> ast.expr:
        """`(before(name), node)[1]`, handed to `after`."""
        assert isinstance(call.func, ast.Attribute)
        base = f"{self.module}:{'.'.join(self._functions)}:{call.func.attr}"
        number = sum(step == base or step.startswith(f"{base}#") for step in self.steps)
        step = f"{base}#{number + 1}" if number else base
        self.steps.append(step)
        before = ast.Call(ast.Name("__before_step__", ast.Load()), [ast.Constant(step)], [])
        both = ast.Subscript(ast.Tuple([before, node], ast.Load()), ast.Constant(1), ast.Load())
        after = ast.Call(ast.Name("__after_step__", ast.Load()), [ast.Constant(step), both], [])
        return ast.copy_location(after, node)


def rewritten(module: str, source: bytes) -> tuple[ast.Module, list[str]]:
    finder = Finder(module)
    tree = ast.parse(source)
    finder.visit(tree)
    return ast.fix_missing_locations(tree), finder.steps


def path_of(module: str) -> Path:
    return SERVER.joinpath("torana_server", *module.split(".")).with_suffix(".py")


def durable_steps() -> Iterator[str]:
    for module in MODULES:
        yield from rewritten(module, path_of(module).read_bytes())[1]


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Without the compiled file, which is of the code as it stands."""
        tree, _ = rewritten(fullname.removeprefix("torana_server."), self.get_data(self.path))
        return compile(tree, self.path, "exec", dont_inherit=True)


class _Importer(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        module = fullname.removeprefix("torana_server.")
        if module == fullname or module not in MODULES:
            return None
        return importlib.util.spec_from_loader(fullname, _Loader(fullname, str(path_of(module))))


@dataclass(slots=True)
class Armed:
    """Where this process dies: at the `nth` time that it comes there."""

    failpoint: Failpoint | None = None
    nth: int = 1

    def come(self, step: str, when: str) -> None:
        point = self.failpoint
        if point is not None and point.step == step and point.when == when:
            self.nth -= 1
            if not self.nth:
                os._exit(EXIT_CODE)


ARMED: Final = Armed()


def install() -> None:
    """Before the server is imported."""
    assert not any(name.startswith("torana_server") for name in sys.modules), "the server is imported already"

    def before(step: str) -> None:
        ARMED.come(step, "before")

    def after(step: str, result: Result) -> Result:
        ARMED.come(step, "after")
        return result

    hooks: dict[str, Callable[..., Any]] = {"__before_step__": before, "__after_step__": after}
    for name, hook in hooks.items():
        setattr(builtins, name, hook)
    sys.meta_path.insert(0, _Importer())
