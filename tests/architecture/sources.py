"""The repository's files and the imports in them, read without running anything."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "server"
CLIENT = ROOT / "clients/python"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `from a.b import c` is module `a.b`, name `c`; `import a.b` has no name."""

    importer: str
    module: str
    name: str | None
    line: int
    in_function: bool
    for_types: bool  # under `if TYPE_CHECKING`: an arrow in the design, but nothing that runs

    def __str__(self) -> str:
        what = f"from {self.module} import {self.name}" if self.name else f"import {self.module}"
        return f"{self.importer}:{self.line}: {what}"


@cache
def tracked_files() -> tuple[Path, ...]:
    """What git tracks; in a folder that is no clone, every file outside hidden folders."""
    ran = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if ran.returncode == 0:
        names = (ROOT / name for name in ran.stdout.split("\0") if name)
        return tuple(path for path in names if path.is_file())
    files = (path for path in ROOT.rglob("*") if path.is_file())
    return tuple(p for p in files if not any(part.startswith(".") for part in p.relative_to(ROOT).parts[:-1]))


def is_generated(path: Path) -> bool:
    return path.name.endswith(("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"))


@cache
def python_files(root: Path, package: str) -> tuple[Path, ...]:
    """The hand-written Python files of a package, tracked or not yet."""
    return tuple(sorted(path for path in (root / package).rglob("*.py") if not is_generated(path)))


def module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(root: Path, package: str) -> tuple[Import, ...]:
    """Every import in the package, wherever it stands in its file."""
    return tuple(found for path in python_files(root, package) for found in imports_of(root, path))


def imports_of(root: Path, path: Path) -> Iterator[Import]:
    importer = module_name(root, path)
    tree = ast.parse(path.read_text("utf-8"), str(path))
    in_functions = inside(functions(tree))
    for_types = inside(node for node in ast.walk(tree) if is_type_checking(node))
    for node in ast.walk(tree):
        where = (getattr(node, "lineno", 0), id(node) in in_functions, id(node) in for_types)
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, alias.name, None, *where)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(importer, absolute(importer, path, node), alias.name, *where)


def inside(nodes: Iterable[ast.AST]) -> set[int]:
    """The identities of the nodes and all that is in them."""
    return {id(inner) for node in nodes for inner in ast.walk(node)}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def absolute(importer: str, path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = importer.split(".") if path.name == "__init__.py" else importer.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def is_in(module: str, *packages: str) -> bool:
    """Whether the module is one of the packages or lies inside one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)
