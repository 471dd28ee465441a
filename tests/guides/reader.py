"""Someone who tries the blocks of the guides, one after another, in one Python session."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import inspect
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from weakref import WeakSet

from guides.blocks import blocks, in_torana, left_out_imports
from torana_server import Gateway

CHAIN = ".add_async_code("


class Printed(io.StringIO):
    """What a block prints; `first` is set with its first line."""

    def __init__(self) -> None:
        super().__init__()
        self.first = asyncio.Event()

    def write(self, text: str, /) -> int:
        if "\n" in text:
            self.first.set()
        return super().write(text)


class Reader:
    """`names` is the session: what one block binds, the next one has. All that the guides import is there already.

    `run` runs a block as it stands, but for the names in the page's first table. `instead` changes it first.
    """

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "guide"}
        self._others = WeakSet(_gateways(gc.get_objects()))
        for line in (*_imports(), *left_out_imports()):
            exec(line, self.names)

    def __getitem__(self, name: str) -> Any:
        return self.names[name]

    def __setitem__(self, name: str, value: object) -> None:
        self.names[name] = value

    async def run(self, *ids: str, instead: Mapping[str, object] | None = None) -> str:
        """What they print. Raises what a block raises."""
        return "".join([await self.run_text(block, self.text(block, instead)) for block in ids])

    async def run_text(self, label: str, text: str) -> str:
        with contextlib.redirect_stdout(Printed()) as printed:
            await self._execute(label, text)
        return printed.getvalue()

    async def run_until_print(self, block: str) -> str:
        """For a block that goes on for ever: it is cancelled once it has printed its first line."""
        with contextlib.redirect_stdout(Printed()) as printed:
            running = asyncio.create_task(self._execute(block, self.text(block)))
            seen = asyncio.create_task(printed.first.wait())
            await asyncio.wait((running, seen), return_when=asyncio.FIRST_COMPLETED)
            for task in (running, seen):
                task.cancel()
            outcome, _ = await asyncio.gather(running, seen, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome
        return printed.getvalue()

    async def framed(self, block: str, *, instead: Mapping[str, object] | None = None) -> Any:
        """The workflow that a block's steps make with a builder before them and `build()` after. What the block has
        before its steps runs first."""
        before, chain = _parts(self.text(block, instead))
        builder = f"WorkflowBuilder({block.replace(' ', '_')!r})"
        await self._execute(block, f"{before}\nframed = (\n{builder}\n{chain}\n.build())")
        return self["framed"]

    def step(self, block: str) -> Any:
        """A workflow of one step, whose source is the block."""
        return self["WorkflowBuilder"](block.replace(" ", "_")).add_async_code("step", self.text(block)).build()

    def text(self, block: str, instead: Mapping[str, object] | None = None) -> str:
        text = in_torana(blocks()[block].text)
        for old, new in (instead or {}).items():
            assert old in text, f"{block} has no {old!r} any more"
            text = text.replace(old, str(new))
        return text

    def statements(self, block: str) -> list[str]:
        """The text of each statement of a block, for what is to be seen between them."""
        text = self.text(block)
        return [ast.get_source_segment(text, node) or "" for node in ast.parse(text).body]

    async def leave(self) -> None:
        """Closes every gateway that a block has left open, also one that only a function of it knew."""
        for gateway in {*_gateways(self.names.values()), *_gateways(gc.get_objects())} - set(self._others):
            await gateway.close()

    async def _execute(self, label: str, text: str) -> None:
        compiled = compile(text, f"<{label}>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(compiled, self.names)
        if inspect.iscoroutine(result):
            await result


def _gateways(things: Iterable[object]) -> list[Gateway]:
    return [thing for thing in things if isinstance(thing, Gateway)]


def _imports() -> Iterator[str]:
    """The import statements at the top level of every block of the guides that is Python by itself."""
    for block in blocks().values():
        text = in_torana(block.text)
        try:
            statements = compile(text, block.id, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT).body
        except SyntaxError:
            continue  # a fragment
        yield from (ast.unparse(one) for one in statements if isinstance(one, ast.Import | ast.ImportFrom))


def _parts(text: str) -> tuple[str, str]:
    """What stands before the first step of a fragment, and its steps."""
    lines = text.splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.startswith(CHAIN))
    return "".join(lines[:start]), "".join(lines[start:])
