"""What the compiler makes of a source, to compare with."""

from __future__ import annotations

import ast
import sys

from torana_server.steps.source import StepSource, compile_source


def compilers_local_names(parsed: StepSource) -> set[str]:
    code = compile_source(parsed)
    local = {name for name in (*code.co_varnames, *code.co_cellvars) if not name.startswith(".")}
    if sys.version_info >= (3, 12):  # comprehensions are part of the function there, and so are their names
        local -= {
            n.id
            for node in ast.walk(ast.Module(parsed.body, []))
            if isinstance(node, ast.comprehension)
            for n in ast.walk(node.target)
            if isinstance(n, ast.Name) and n.id not in parsed.names.bound
        }
    return local
