"""Which names a source step binds and reads, found in its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Position = tuple[int, int]
"""Line from 1, column from 1."""


@dataclass(frozen=True, slots=True)
class SourceNames:
    """Names of a source's top level, as the compiler will treat them once it is a function's body.

    `bound` are its local names; `read_first` those of them that are read before anything in the text binds them, so
    that they can only come from an input; `read` are all that it reads at any depth, but for names local to what it
    defines; `declared_global` are those it declares `global`.
    """

    bound: frozenset[str]
    read_first: frozenset[str]
    read: frozenset[str]
    declared_global: frozenset[str]
    imports: tuple[tuple[str, Position], ...]
    yields_at: Position | None


def find_names(body: list[ast.stmt]) -> SourceNames:
    scan = _Scan()
    for statement in body:
        scan.visit(statement)
    bound = frozenset(scan.bound - scan.declared_global)
    return SourceNames(
        bound=bound,
        read_first=frozenset(scan.read_first & bound),
        read=frozenset(scan.read),
        declared_global=frozenset(scan.declared_global),
        imports=tuple(scan.imports),
        yields_at=scan.yields_at,
    )


class _Scan(ast.NodeVisitor):
    """Visits in the order of evaluation, so that `x = x + 1` reads `x` before it binds it."""

    def __init__(self) -> None:
        self.bound: set[str] = set()
        self.read: set[str] = set()
        self.read_first: set[str] = set()
        self.declared_global: set[str] = set()
        self.imports: list[tuple[str, Position]] = []
        self.yields_at: Position | None = None
        self._given_value: set[str] = set()
        self._hidden: list[frozenset[str]] = []
        self._depth = 0

    def _bind(self, name: str) -> None:
        if self._depth == 0:
            self.bound.add(name)
            self._given_value.add(name)

    def _read(self, name: str) -> None:
        if any(name in names for names in self._hidden):
            return
        self.read.add(name)
        if name not in self._given_value:
            self.read_first.add(name)

    @contextmanager
    def _inside(self, own_names: frozenset[str], *, new_scope: bool) -> Iterator[None]:
        """Within something that has names of its own; a new scope also keeps what it binds to itself."""
        self._hidden.append(own_names)
        self._depth += new_scope
        yield
        self._depth -= new_scope
        self._hidden.pop()

    def _visit_all(self, *nodes: ast.AST | None) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    # names

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._read(node.id)
        elif isinstance(node.ctx, ast.Del):
            self._read(node.id)
            self._bind(node.id)
        elif not any(node.id in names for names in self._hidden):
            self._bind(node.id)

    def visit_Global(self, node: ast.Global) -> None:
        if self._depth == 0:
            self.declared_global.update(node.names)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.imports.append((alias.name, _position(node)))
            self._bind(alias.asname or alias.name.partition(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and not node.level:
            self.imports.append((node.module, _position(node)))
        for alias in node.names:
            self._bind(alias.asname or alias.name)

    # statements and expressions whose parts are not evaluated in the order of their fields

    def visit_Assign(self, node: ast.Assign) -> None:
        self._visit_all(node.value, *node.targets)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(node.target.id)
        self._visit_all(node.value, node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is None and isinstance(node.target, ast.Name):
            if self._depth == 0:
                self.bound.add(node.target.id)  # local, but still without a value
        else:
            self._visit_all(node.value, node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._visit_all(node.value, node.target)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self._visit_all(node.iter, node.target, *node.body, *node.orelse)

    visit_AsyncFor = visit_For  # noqa: N815 — ast.NodeVisitor's naming

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._visit_all(node.type)
        if node.name:
            self._bind(node.name)
        self._visit_all(*node.body)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._visit_all(node.pattern)
        if node.name:
            self._bind(node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self._bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._visit_all(*node.keys, *node.patterns)
        if node.rest:
            self._bind(node.rest)

    # what has names of its own

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(*node.decorator_list, node.args, node.returns)
        with self._inside(_own_names(node.args, node.body), new_scope=True):
            self._visit_all(*node.body)
        self._bind(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 — ast.NodeVisitor's naming

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_all(node.args)
        with self._inside(_own_names(node.args, [node.body]), new_scope=True):
            self._visit_all(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all(*node.decorator_list, *node.bases, *node.keywords)
        with self._inside(frozenset(), new_scope=True):
            self._visit_all(*node.body)
        self._bind(node.name)

    def _visit_comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self.visit(node.generators[0].iter)
        targets = frozenset(name for generator in node.generators for name in _stored(generator.target))
        results = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        # An assignment expression in a comprehension binds in the function around it: no scope of its own.
        with self._inside(targets, new_scope=False):
            for number, generator in enumerate(node.generators):
                self._visit_all(generator.iter if number else None, generator.target, *generator.ifs)
            self._visit_all(*results)

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _visit_comprehension  # noqa: N815 — as above

    # what a step may not do

    def _visit_yield(self, node: ast.Yield | ast.YieldFrom) -> None:
        if self._depth == 0 and self.yields_at is None:
            self.yields_at = _position(node)
        self.generic_visit(node)

    visit_Yield = visit_YieldFrom = _visit_yield  # noqa: N815 — ast.NodeVisitor's naming


def _own_names(args: ast.arguments, body: list[ast.stmt] | list[ast.expr]) -> frozenset[str]:
    """The parameters of a function and what its body assigns, unless it says that the names are not its own."""
    variadic = [arg for arg in (args.vararg, args.kwarg) if arg is not None]
    names = {arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, *variadic)}
    foreign: set[str] = set()
    for node in body:
        names |= _stored(node)
        for inner in ast.walk(node):
            if isinstance(inner, ast.Global | ast.Nonlocal):
                foreign.update(inner.names)
    return frozenset(names - foreign)


def _stored(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _position(node: ast.stmt | ast.expr) -> Position:
    return node.lineno, node.col_offset + 1
