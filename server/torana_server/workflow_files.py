"""Workflows kept as YAML files in a folder, followed as they change.

What a file last said in good order is served until it says something else in good order or is gone: a file that breaks
takes nothing away. Running executions keep the revision they began with in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from watchfiles import awatch

from torana_server.core import logs
from torana_server.core.errors import InvalidWorkflowError, Violation
from torana_server.workflow import Definition, from_yaml, located

if TYPE_CHECKING:
    from torana_server.gateway import Gateway

SUFFIXES: Final = (".yaml", ".yml")
SETTLE_MS: Final = 100
"""A change is looked at when nothing has moved for so long: editors write in several steps."""
LOOK_INTERVAL_S: Final = 2.0
"""How often files are looked at where the system tells of no changes, such as on a network file system."""

logger = logs.logger("workflows")


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """What a file says: `definition`, or `problems` with their places. `text` tells one saying from another."""

    path: Path
    text: bytes
    definition: Definition | None = None
    problems: tuple[Violation, ...] = ()


def read_workflow_file(path: Path, known: WorkflowFile | None = None) -> WorkflowFile:
    """`known` is what the file said before, which need not be parsed again."""
    text = b""
    try:
        text = path.read_bytes()
        if known is not None and known.text == text and text:
            return known
        return WorkflowFile(path, text, from_yaml(text.decode()))
    except OSError as error:
        return WorkflowFile(path, text, problems=(Violation("", f"cannot be read: {error.strerror}"),))
    except UnicodeDecodeError as error:
        return WorkflowFile(path, text, problems=(Violation("", f"is not UTF-8 text: byte {error.start}"),))
    except InvalidWorkflowError as error:
        return WorkflowFile(path, text, problems=_problems(error))


class WorkflowFolder:
    """The files of `folder` whose names end in `.yaml` or `.yml`, each a workflow of `gateway`."""

    def __init__(self, folder: Path, gateway: Gateway) -> None:
        self.folder = folder
        self._gateway = gateway
        self._files: dict[Path, WorkflowFile] = {}
        self._broken: dict[Path, tuple[Violation, ...]] = {}
        self._owners: dict[str, Path] = {}
        self._marks: Mapping[Path, object] = {}
        self._one_at_a_time = asyncio.Lock()
        self._is_missing = False
        self._is_loaded = False

    def load(self) -> int:
        """Registers every file; how many. Raises InvalidWorkflowError with the problems of all of them."""
        try:
            self._marks = _marks(self.folder)
        except OSError as error:
            raise InvalidWorkflowError(f"{self.folder} cannot be read: {error.strerror}") from None
        self._take(self._read(self._marks))
        if self._broken:
            violations = [_in_file(path, one) for path in sorted(self._broken) for one in self._broken[path]]
            raise InvalidWorkflowError(f"the workflows in {self.folder} cannot be served", violations=violations)
        self._is_loaded = True
        return len(self._files)

    async def reload(self, *, told: bool = True) -> None:
        """Takes over what changed and logs it. Unless `told`, files that look as they did are not read."""
        async with self._one_at_a_time:
            try:
                marks = await asyncio.to_thread(_marks, self.folder)
            except OSError as error:
                self._missing(error)
                return
            self._is_missing = False
            if told or marks != self._marks:
                files = await asyncio.to_thread(self._read, list(marks))
                self._marks = marks
                before = self._broken
                self._take(files)
                self._tell(before)

    @contextlib.asynccontextmanager
    async def followed(self, *, by_itself: bool) -> AsyncIterator[None]:
        """SIGHUP reloads, and with `by_itself` so does a change of a file.

        SIGHUP also comes when the terminal closes that the process was started at; it then stops, as by SIGTERM.
        """
        loop = asyncio.get_running_loop()
        at_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # as by nohup
        asked = asyncio.Event()
        work = [self._reload_when(asked), self._follow()] if by_itself else [self._reload_when(asked)]
        tasks = [asyncio.create_task(self._guarded(one)) for one in work]

        def hang_up() -> None:
            if at_terminal and not _has_terminal():
                signal.raise_signal(signal.SIGTERM)
            asked.set()

        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every change
        loop.add_signal_handler(signal.SIGHUP, hang_up)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A defect here must not end the server, nor pass unseen."""
        try:
            await work
        except Exception:
            logger.exception("the workflows in %s are not followed any more; start the server again", self.folder)

    async def _reload_when(self, asked: asyncio.Event) -> None:
        while True:
            await asked.wait()
            asked.clear()
            await self.reload()
            logger.info("looked at the workflows in %s, as asked by SIGHUP", self.folder)

    async def _follow(self) -> None:
        warned = False
        while True:
            try:
                await self._follow_events()
            except (OSError, RuntimeError) as error:  # no such folder; no watches left
                if not warned and self.folder.exists():
                    said = "the system does not tell of changes in %s (%s); it is looked at every %g s"
                    logger.warning(said, self.folder, error, LOOK_INTERVAL_S)
                    warned = True
            await asyncio.sleep(LOOK_INTERVAL_S)
            await self.reload(told=False)

    async def _follow_events(self) -> None:
        """Until the folder is another one, as after a restore or a mount."""
        followed = self.folder.stat().st_ino
        changes = awatch(
            self.folder,
            watch_filter=None,
            step=SETTLE_MS,
            rust_timeout=round(LOOK_INTERVAL_S * 1_000),
            yield_on_timeout=True,
            recursive=False,
        )
        async with contextlib.aclosing(changes):
            await self.reload(told=False)  # what changed before the watching began
            async for change in changes:
                await self.reload(told=bool(change))
                if _inode(self.folder) != followed:
                    return

    def _read(self, paths: Iterable[Path]) -> dict[Path, WorkflowFile]:
        return {path: read_workflow_file(path, self._files.get(path)) for path in paths}

    def _missing(self, error: OSError) -> None:
        if not self._is_missing:
            logger.error("%s cannot be read: %s; its workflows go on as they are", self.folder, error.strerror)
        self._is_missing = True

    # what the files say becomes what is served

    def _take(self, files: dict[Path, WorkflowFile]) -> None:
        broken = {path: file.problems for path, file in files.items() if file.problems}
        broken |= _named_twice(files.values())
        for path, file in files.items():
            if path not in broken and file.definition is not None:
                broken |= self._register(file, file.definition)
        self._drop(files, broken)
        self._files, self._broken = files, broken

    def _register(self, file: WorkflowFile, definition: Definition) -> dict[Path, tuple[Violation, ...]]:
        """The problems of the file, if any."""
        if self._files.get(file.path) is file and self._serves(file.path, definition.name):
            return {}
        before = self._gateway.workflows.get(definition.name)
        if before is not None and definition.name not in self._owners:
            taken = f"the workflow {definition.name!r} is registered by the program; give this one another name"
            return {file.path: (Violation("name", taken),)}
        try:
            now = self._gateway.register_workflow(definition.name, definition)
        except InvalidWorkflowError as error:
            return {file.path: _problems(located(error, file.text.decode()))}
        self._owners[definition.name] = file.path
        if before is None:
            self._log("registered %s from %s: revision %s", definition.name, file.path, now.revision)
        elif before.revision != now.revision:
            self._log(
                "reloaded %s from %s: revision %s follows %s",
                definition.name,
                file.path,
                now.revision,
                before.revision,
            )
        return {}

    def _serves(self, path: Path, name: str) -> bool:
        return self._owners.get(name) == path and path not in self._broken

    def _drop(self, files: Mapping[Path, WorkflowFile], broken: Mapping[Path, object]) -> None:
        """Workflows that no file names any more."""
        named = {file.definition.name for file in files.values() if file.definition is not None}
        for name, path in list(self._owners.items()):
            if name not in named and path not in broken:
                del self._owners[name]
                revision = self._gateway.workflows[name].revision
                self._gateway.unregister_workflow(name)
                self._log("removed %s, which %s no longer holds: revision %s", name, path, revision)

    def _log(self, text: str, name: str, path: Path, *revisions: str) -> None:
        """What is there from the start the greeting tells."""
        level = logging.INFO if self._is_loaded else logging.DEBUG
        logger.log(level, text, name, path, *(revision[:12] for revision in revisions), extra={"workflow": name})

    def _tell(self, before: Mapping[Path, tuple[Violation, ...]]) -> None:
        """What broke and what is in order again since the files were `before`."""
        for path, problems in self._broken.items():
            if before.get(path) != problems:
                goes_on = [name for name, owner in self._owners.items() if owner == path]
                still = f"; {', '.join(goes_on)} stays as it was" if goes_on else ""
                logger.error("%s is not served: %s%s", path, "; ".join(map(str, problems)), still)
        for path in before.keys() - self._broken.keys() & self._files.keys():
            logger.info("%s is in order again", path)


def _named_twice(files: Iterable[WorkflowFile]) -> dict[Path, tuple[Violation, ...]]:
    named: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if file.definition is not None:
            named[file.definition.name].append(file.path)
    return {
        path: (Violation("name", f"{' and '.join(p.name for p in paths)} both hold the workflow {name!r}"),)
        for name, paths in named.items()
        for path in paths
        if len(paths) > 1
    }


def _problems(error: InvalidWorkflowError) -> tuple[Violation, ...]:
    return error.violations or (Violation("", error.message),)


def _in_file(path: Path, problem: Violation) -> Violation:
    return Violation(f"{path}: {problem.path}" if problem.path else str(path), problem.message)


def _marks(folder: Path) -> dict[Path, object]:
    """Each file with what changes when it does. A file that is just going counts as gone."""
    found: dict[Path, object] = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.name[0] != "."):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found


def _has_terminal() -> bool:
    """Whether the process belongs to one that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _inode(folder: Path) -> int:
    return folder.stat().st_ino if folder.exists() else 0
