"""How source steps bind names, return, fail and are refused."""

from __future__ import annotations

import asyncio
import gc
import linecache
import re
import sys
import traceback
from typing import Any

import pytest

from torana_server.core.errors import Reason, StepError
from torana_server.steps import ImportPolicy
from unit.steps.world import World, code

RETURNS: dict[str, tuple[str, dict[str, object], object]] = {
    "a returned value is the output": ("return {'n': n}", {"n": 1}, {"n": 1}),
    "an assigned result is the output": ("result = [n]", {"n": 1}, [1]),
    "a result assigned in one branch only is null in the other": ("if n:\n    result = 1", {"n": 0}, None),
    "a source without either outputs null": ("n = 1", {}, None),
    "a bare return outputs null even with a result": ("result = 1\nreturn", {}, None),
    "an input named result is not the output": ("n = 1", {"result": 5}, None),
    "a result from a nested function is not the output": ("def f():\n    result = 1\nf()", {}, None),
    "a result of a comprehension is not the output": ("[result for result in [1]]", {"result": 5}, None),
    "a global result is the output": ("global result\nresult = 3", {}, 3),
    "a source of comments outputs null": ("# nothing yet", {}, None),
    "top-level await works": ("await asyncio.sleep(0)\nreturn 1", {}, 1),
    "top-level async with and async for work": (
        "async def numbers():\n    yield 1\n    yield 2\nreturn [n async for n in numbers()]",
        {},
        [1, 2],
    ),
    "a common indentation is dropped": ("\n    n = 1\n    return n\n", {}, 1),
    "inputs can be reassigned": ("n = n + 1\nn += 1\nreturn n", {"n": 1}, 3),
    "inputs are seen by nested functions": ("def f():\n    return n\nreturn f()", {"n": 1}, 1),
    "nested functions can rebind inputs": ("def f():\n    nonlocal n\n    n = 2\nn = n\nf()\nreturn n", {"n": 1}, 2),
    "locals shows all supplied inputs, read or not": ("return sorted(locals())", {"b": 1, "a": 2}, ["a", "b"]),
    "an input that nobody supplied is not in locals": (
        "return ['x' in locals(), 'y' in locals()]",
        {"y": 1},
        [False, True],
    ),
    "locals are inputs only, so they can be serialised": (
        "return json.loads(json.dumps(locals()))",
        {"a": 1},
        {"a": 1},
    ),
    "inputs shadow provided modules": ("return [time, date]", {"time": "noon", "date": "today"}, ["noon", "today"]),
    "inputs shadow builtins": ("return [list, id]", {"list": 1, "id": 2}, [1, 2]),
    "inputs do not shadow get_resource, context and logger": (
        "return [callable(get_resource), context.get('user'), hasattr(logger, 'info'), sorted(ctx.inputs)]",
        {"get_resource": 1, "context": 2, "logger": 3},
        [True, "ada", True, ["context", "get_resource", "logger"]],
    ),
    "a protected name that the source binds starts as provided": (
        "before = context.get('user')\ncontext = 5\nreturn [before, context]",
        {"context": 2},
        ["ada", 5],
    ),
    "inputs that are no identifiers are in ctx.inputs": (
        "return [ctx.inputs['user-id'], ctx.inputs['class'], ctx.inputs['ﬁ'], 'class' in locals()]",
        {"user-id": 1, "class": 2, "ﬁ": 3, "__debug__": 4},
        [1, 2, 3, False],
    ),
    "identifiers of any script are inputs": ("return größe", {"größe": 1}, 1),
    "a module imported midway has its provided value before": (
        "before = json.dumps([1])\nimport json\nreturn [before, json.dumps([2])]",
        {},
        ["[1]", "[2]"],
    ),
    "a provided name that a loop binds starts as provided": (
        "m = math.floor(1.5)\nfor math in [7]: pass\nreturn [m, math]",
        {},
        [1, 7],
    ),
    "an input wins over a provided name that the source binds": ("x = time\nimport time\nreturn x", {"time": 3}, 3),
    "an import of something not provided works": ("import textwrap\nreturn textwrap.dedent('  a')", {}, "a"),
    "imports from provided modules work": ("from datetime import datetime as dt\nreturn dt is datetime", {}, True),
    "a global statement still finds the input": ("global n\nn += 1\nreturn n", {"n": 1}, 2),
    "provided classes are classes": (
        "return [c.__name__ for c in (datetime, date, timedelta, timezone, Decimal)]",
        {},
        ["datetime", "date", "timedelta", "timezone", "Decimal"],
    ),
    "provided modules are modules": (
        "return [m.__name__ for m in (asyncio, json, time, math, re, uuid, asyncpg, aiohttp)]",
        {},
        ["asyncio", "json", "time", "math", "re", "uuid", "asyncpg", "aiohttp"],
    ),
    "names of the step are provided": (
        "return [workflow_name, step_name, ctx.execution_id, ctx.attempt, ctx.idempotency_key]",
        {},
        ["user_etl", "extract", "execution-1", 1, "key-1"],
    ),
    "classes can be defined": ("class A:\n    n = 1\nreturn [A.n, A.__module__]", {}, [1, "user_etl.extract"]),
    "many inputs are fine": ("return len(locals())", {f"n{i}": i for i in range(300)}, 300),
    "an own print to a file is written": (
        "import io\nf = io.StringIO()\nprint('a', 1, sep='-', file=f)\nreturn f.getvalue()",
        {},
        "a-1\n",
    ),
}


@pytest.mark.parametrize("rule", RETURNS)
async def test_source_steps_follow_the_rule(rule: str) -> None:
    source, inputs, output = RETURNS[rule]
    assert await World().run(code(source), inputs, context={"user": "ada"}) == output


UNSUPPLIED: dict[str, tuple[str, str]] = {
    "read once": ("return items", "items"),
    "read in a nested function": ("def f():\n    return items\nreturn f()", "items"),
    "read before the source binds it": ("items = items or []", "items"),
    "augmented before anything binds it": ("count += 1", "count"),
    "closed over and bound only later": ("def f():\n    return n\nf()\nn = 1", "n"),
    "annotated but without a value": ("n: int\nreturn n + 1", "n"),
    "read in a task": ("async def f():\n    return items\nawait asyncio.gather(f())", "items"),
    "read in a comprehension": ("return [x for x in items]", "items"),
    "deleted": ("del items", "items"),
}


@pytest.mark.parametrize("case", UNSUPPLIED)
async def test_reading_an_input_nobody_supplied_names_it(case: str) -> None:
    source, name = UNSUPPLIED[case]
    with pytest.raises(StepError, match=f"needs '{name}'.*supplied: limit") as caught:
        await World().source(source, limit=1)
    assert caught.value.reason is Reason.INPUT_NOT_FOUND
    assert caught.value.metadata["input"] == name


OWN_MISTAKES: dict[str, tuple[str, type[Exception]]] = {
    "a name bound in a branch not taken": ("if False:\n    y = 1\nreturn y", UnboundLocalError),
    "an exception's name after its handler": (
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    pass\nreturn e",
        UnboundLocalError,
    ),
    "a local of a nested function": ("def f():\n    n += 1\nf()", UnboundLocalError),
    "a free variable of a nested function": (
        "def f():\n    def g():\n        return x\n    g()\n    x = 1\nf()",
        NameError,
    ),
    "an input that the source deleted": ("del limit\nreturn limit", UnboundLocalError),
    "a name error raised by hand": ("raise NameError('mine')", NameError),
    "a name error inside a library": ("import string\nexec('undefined_in_exec', {})", NameError),
}


@pytest.mark.parametrize("case", OWN_MISTAKES)
async def test_a_name_that_could_not_be_an_input_keeps_its_own_error(case: str) -> None:
    source, error = OWN_MISTAKES[case]
    with pytest.raises(error) as caught:
        await World().source(source, limit=1)
    assert type(caught.value) is error


async def test_a_source_may_catch_the_name_error_itself() -> None:
    assert await World().source("try:\n    x\nexcept NameError:\n    x = 5\nreturn x") == 5


REFUSED: dict[str, tuple[str, str]] = {
    "a syntax error": ("a = 1\nb = = 2", "line 2, column 5: invalid syntax"),
    "a yield": ("a = 1\nif a:\n  yield a", "line 3, column 3: 'yield' is refused in a step"),
    "a yield in an expression": ("a = yield", "line 1, column 5: 'yield' is refused in a step"),
    "a break outside a loop": ("break", "line 1, column 1: 'break' outside loop"),
    "an await in a plain function": ("def f():\n    await g()", "line 2, column 5: 'await' outside async function"),
    "an import of everything": ("from math import *", "line 1, column \\d+: import \\* only allowed at module level"),
    "nothing": ("  \n", "is empty"),
    "a NUL character": ("a = 1\0", "null bytes"),
    "a lone surrogate": ("a = '\ud800'", "is not Python source"),
    "uneven indentation": ("a = 1\n   b = 2", "line 2, column .*unexpected indent"),
    "too deep nesting": ("(" * 300 + ")" * 300, "nested"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_a_problem_of_the_definition(case: str) -> None:
    source, message = REFUSED[case]
    (problem,) = World().types.find("code").problems({"source": source})
    assert problem.path == "source"
    assert re.search(message, problem.message), problem.message


def test_yield_in_a_nested_function_is_fine() -> None:
    source = "def f():\n    yield 1\nreturn list(f())"
    assert World().types.find("code").problems({"source": source}) == []


async def test_tracebacks_show_the_sources_own_lines() -> None:
    source = "\n    def share(n):\n        return 1 / n\n\n    return share(0)\n"
    with pytest.raises(ZeroDivisionError) as caught:
        await World().run(code(source, name="divide"))
    frames = [f for f in traceback.extract_tb(caught.value.__traceback__) if f.filename.startswith("<step")]
    assert [(f.filename, f.lineno, f.name, f.line) for f in frames] == [
        ("<step user_etl.divide>", 5, "divide", "return share(0)"),
        ("<step user_etl.divide>", 3, "share", "return 1 / n"),
    ]


async def test_two_revisions_side_by_side_show_their_own_lines() -> None:
    world = World()
    lines = []
    for revision, source in (("a" * 64, "one = 1 / 0"), ("b" * 64, "two = 1 / 0"), ("a" * 64, "one = 1 / 0")):
        with pytest.raises(ZeroDivisionError) as caught:
            await world.run(code(source), revision=revision)
        lines.append(traceback.extract_tb(caught.value.__traceback__)[-1].line)
    assert lines == ["one = 1 / 0", "two = 1 / 0", "one = 1 / 0"]


async def test_lines_are_forgotten_with_the_source() -> None:
    world = World()
    await world.run(code("return 1", name="forgotten"))
    assert "<step user_etl.forgotten>" in linecache.cache
    del world
    gc.collect()
    assert "<step user_etl.forgotten>" not in linecache.cache


async def test_one_source_serves_different_sets_of_inputs() -> None:
    world = World()
    step = code("return sorted(locals())")
    for inputs in ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}, {}):
        assert await world.run(step, inputs) == sorted(inputs)


async def test_attempts_share_no_names() -> None:
    world = World()
    step = code("global seen\nbefore = 'seen' in globals()\nseen = 1\njson.mine = 1\nreturn before")
    try:
        assert [await world.run(step) for _ in range(2)] == [False, False]
    finally:
        del sys.modules["json"].mine  # the step set it


async def test_registered_functions_are_provided_by_name() -> None:
    world = World()
    world.functions.register("double", lambda n: n * 2)
    assert await world.source("return double(n)", n=2) == 4
    assert await world.source("return double", double=7) == 7
    assert await world.source("x = double(1)\ndouble = 0\nreturn [x, double]") == [2, 0]


async def test_a_function_registered_later_is_provided_too() -> None:
    world = World()
    step = code("x = double(1)\ndouble = 0\nreturn x")
    with pytest.raises(StepError, match="needs 'double'"):
        await world.run(step)
    world.functions.register("double", lambda n: n * 2)
    assert await world.run(step) == 2


def test_a_source_requires_the_functions_it_reads() -> None:
    world = World()
    for name in ("double", "triple", "json"):
        world.functions.register(name, lambda n: n, version="7")
    code_type = world.types.find("code")
    source = "json.dumps(1)\nasync def f(triple):\n    return double(triple)\nreturn await f(1)"
    assert code_type.requires({"source": source}) == {"code", "function:double@7"}
    assert code_type.requires({"source": "b = = 1"}) == code_type.requires({}) == {"code"}


async def test_print_becomes_a_log_event_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    await world.source("print('a', 1, sep='-')\nprint('x\\ny\\x1b[0m')\nimport sys\nprint('e', file=sys.stderr)")
    assert world.events.lines == [(20, "a-1"), (20, "x\\ny\\x1b[0m"), (20, "e")]
    assert capsys.readouterr().out == ""


async def test_the_import_policy_holds_at_run_time_and_names_the_line_before() -> None:
    world = World(policy=ImportPolicy(frozenset({"xml.etree", "collections"})))
    refused = "x = 1\nimport json, subprocess"
    (problem,) = world.types.find("code").problems({"source": refused})
    assert problem.message.startswith("line 2, column 1: import of 'subprocess' is not allowed")
    for source in (refused, "__import__('subprocess')", "from xml import sax"):
        with pytest.raises(ImportError, match="is not allowed by this server"):
            await world.source(source)
    allowed = "import json, asyncio.events, xml.etree.ElementTree as e\nfrom collections import abc\nreturn e.__name__"
    assert await world.source(allowed) == "xml.etree.ElementTree"


async def test_what_an_allowed_module_imports_is_its_own_business() -> None:
    sys.modules.pop("this_module_is_not_there", None)
    world = World(policy=ImportPolicy(frozenset({"email"})))
    for name in [name for name in sys.modules if name.startswith("email.mime")]:
        del sys.modules[name]
    assert await world.source("from email.mime import text\nreturn text.__name__") == "email.mime.text"


async def test_the_current_context_is_the_requests_at_any_depth_in_tasks_and_in_to_thread() -> None:
    source = """
def deep():
    return get_current_context().get_variable("user")
async def in_task():
    return deep()
return [deep(), await asyncio.create_task(in_task()), await asyncio.to_thread(deep), get_current_context() is context]
"""
    assert await World().run(code(source), context={"user": "ada"}) == ["ada", "ada", "ada", True]


async def test_concurrent_steps_see_their_own_context() -> None:
    world = World()
    step = code("await asyncio.sleep(0)\nreturn get_current_context().get('n')")
    calls: list[Any] = [world.run(step, context={"n": n}) for n in range(20)]
    assert await asyncio.gather(*calls) == list(range(20))
