"""The names found in a syntax tree are those the compiler finds."""

from __future__ import annotations

import ast

import pytest

from torana_server.steps.source import parse_source
from torana_server.steps.source_names import find_names
from unit.steps.compiled import compilers_local_names

BINDING = [
    "a = b = c",
    "a, (b, *c) = d",
    "a.b = c[d] = e",
    "a += b",
    "a: int = 1\nb: int\nc(b).d: int = 1",
    "for a, b in c:\n  d = a\nelse:\n  e = 1",
    "async for a in b: pass",
    "with a as b, c as (d, e): pass",
    "async with a as b: pass",
    "import a, b.c, d as e\nfrom f import g, h as i",
    "def a(b, *c, d=e, **f):\n  g = 1\n  return h",
    "async def a():\n  nonlocal_ = 1",
    "class A(B, metaclass=C):\n  d = 1",
    "try:\n  a = 1\nexcept B as c:\n  d = 1\nfinally:\n  e = 1",
    "[a for a in b if (c := a)]",
    "{a: b for a, b in c.items() if d}",
    "(a for a in b for c in a)",
    "lambda a, b=c: (d := a)",
    "del a",
    "match a:\n  case {'k': b, **c}: pass\n  case [d, *e]: pass\n  case F(g=h) as i: pass\n  case _: pass",
    "global a\na = 1\nb = 2",
    "if a:\n  b = 1\nelif c:\n  d = 2",
    "while (a := b()): c = a",
    "def f():\n  global g\n  g = 1\n  def h():\n    return i",
]


@pytest.mark.parametrize("source", BINDING)
def test_bound_names_are_the_compilers_local_names(source: str) -> None:
    parsed = parse_source(source, name="step", filename="<source>")
    assert parsed.names.bound == compilers_local_names(parsed)


@pytest.mark.parametrize(
    ("source", "read_first"),
    [
        ("x = x", {"x"}),
        ("x = 1\nx = x", set()),
        ("x += 1", {"x"}),
        ("for x in x: pass", {"x"}),
        ("x = [x for x in y]", set()),
        ("with x as x: pass", {"x"}),
        ("(x := x)", {"x"}),
        ("def f(x=x): return x\nx = 1", {"x"}),
        ("def f(x): return x\nx = 1", set()),
        ("def f():\n  x = 1\n  return x\nx = 1", set()),
        ("def f():\n  nonlocal x\n  x += 1\nx = 1", {"x"}),
        ("try: pass\nexcept x as x: pass", {"x"}),
    ],
)
def test_names_read_before_they_are_bound_can_only_be_inputs(source: str, read_first: set[str]) -> None:
    assert find_names(ast.parse(source).body).read_first == read_first
