"""What the files of a folder say is what is served, and what breaks takes nothing away."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest

from torana_server import Gateway, InvalidWorkflowError
from torana_server import workflow_files as files
from torana_server.workflow import from_yaml
from torana_server.workflow_files import WorkflowFolder

TEXT = """
name: {name}
steps:
  - name: only
    type: {kind}
    config: {{source: "return {answer}"}}
"""


@pytest.fixture
def gateway() -> Gateway:
    return Gateway(enable_durability=False)


@pytest.fixture
def folder(tmp_path, gateway) -> WorkflowFolder:
    path = tmp_path / "flows"
    path.mkdir()
    return WorkflowFolder(path, gateway)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def write(folder: WorkflowFolder, file: str, name: str = "etl", answer: int = 1, kind: str = "code") -> Path:
    path = folder.folder / file
    path.write_text(TEXT.format(name=name, answer=answer, kind=kind), "utf-8")
    return path


def errors(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.ERROR]


def test_every_yaml_file_is_a_workflow_and_nothing_else_is(folder, gateway) -> None:
    write(folder, "a.yaml", "first")
    write(folder, "b.yml", "second")
    write(folder, ".b.yaml", "hidden")
    (folder.folder / "notes.txt").write_text("no workflow")
    assert folder.load() == 2
    assert sorted(gateway.workflows) == ["first", "second"]


def test_at_the_start_every_problem_of_every_file_is_told_at_once(folder) -> None:
    write(folder, "kind.yaml", "one", kind="cod")
    (folder.folder / "form.yaml").write_text("name: two\nstep: []\n")
    (folder.folder / "syntax.yaml").write_text("name: [\n")
    (folder.folder / "bytes.yaml").write_bytes(b"\xff")
    write(folder, "a.yaml", "same")
    write(folder, "b.yaml", "same")
    with pytest.raises(InvalidWorkflowError) as caught:
        folder.load()
    said = str(caught.value)
    for problem in (
        "kind.yaml: steps[0].type: ",
        "(line 5)",
        "form.yaml: steps: is required",
        "form.yaml: step: unknown key (did you mean 'steps'?) (line 2)",
        "syntax.yaml: line 2, column 1: ",
        "bytes.yaml: is not UTF-8 text: byte 0",
        "a.yaml and b.yaml both hold the workflow 'same'",
    ):
        assert problem in said


def test_a_folder_that_is_not_there_is_refused(tmp_path, gateway) -> None:
    with pytest.raises(InvalidWorkflowError, match="nowhere cannot be read: No such file"):
        WorkflowFolder(tmp_path / "nowhere", gateway).load()


async def test_a_changed_file_becomes_a_new_revision_and_says_so(folder, gateway, log) -> None:
    write(folder, "etl.yaml", answer=1)
    folder.load()
    before = gateway.workflows["etl"].revision
    write(folder, "etl.yaml", answer=2)
    await folder.reload()
    after = gateway.workflows["etl"].revision
    assert before != after
    assert log.messages[-1] == (
        f"reloaded etl from {folder.folder / 'etl.yaml'}: revision {after[:12]} follows {before[:12]}"
    )


async def test_a_file_that_comes_is_registered_and_one_that_goes_takes_its_workflow_along(folder, gateway) -> None:
    folder.load()
    path = write(folder, "etl.yaml")
    await folder.reload()
    assert list(gateway.workflows) == ["etl"]
    path.unlink()
    await folder.reload()
    assert not gateway.workflows


async def test_a_file_that_breaks_keeps_its_last_good_revision_until_it_is_mended(folder, gateway, log) -> None:
    write(folder, "etl.yaml", answer=1)
    folder.load()
    good = gateway.workflows["etl"].revision
    for broken in ("name: [", TEXT.format(name="etl", answer="(", kind="code"), "", "name: etl\nsteps: 3"):
        (folder.folder / "etl.yaml").write_text(broken)
        await folder.reload()
        assert gateway.workflows["etl"].revision == good
    assert len(errors(log)) == 4
    assert "etl.yaml is not served: steps[0].config.source: " in errors(log)[1]
    assert "(line 6)" in errors(log)[1]
    assert errors(log)[1].endswith("; etl stays as it was")
    write(folder, "etl.yaml", answer=2)
    await folder.reload()
    assert gateway.workflows["etl"].revision != good
    assert log.messages[-1].endswith("etl.yaml is in order again")


async def test_a_problem_is_told_once(folder, log) -> None:
    folder.load()
    write(folder, "etl.yaml", kind="cod")
    for _ in range(3):
        await folder.reload()
    write(folder, "other.yaml", "other")
    await folder.reload()
    assert len(errors(log)) == 1


async def test_one_name_in_two_files_is_an_error_and_changes_nothing(folder, gateway, log) -> None:
    write(folder, "a.yaml", answer=1)
    folder.load()
    before = gateway.workflows["etl"].revision
    second = write(folder, "b.yaml", answer=2)
    await folder.reload()
    assert gateway.workflows["etl"].revision == before
    assert all("a.yaml and b.yaml both hold the workflow 'etl'" in message for message in errors(log))
    assert errors(log)
    second.unlink()
    write(folder, "a.yaml", answer=3)
    await folder.reload()
    assert gateway.workflows["etl"].revision != before


async def test_a_renamed_file_keeps_its_workflow(folder, gateway) -> None:
    path = write(folder, "old.yaml")
    folder.load()
    before = gateway.workflows["etl"]
    path.rename(folder.folder / "new.yaml")
    await folder.reload()
    assert gateway.workflows["etl"].revision == before.revision
    (folder.folder / "new.yaml").unlink()
    await folder.reload()
    assert not gateway.workflows


async def test_a_file_that_takes_another_name_gives_its_old_one_up(folder, gateway) -> None:
    write(folder, "flow.yaml", "old")
    folder.load()
    write(folder, "flow.yaml", "new")
    await folder.reload()
    assert list(gateway.workflows) == ["new"]


async def test_a_workflow_of_the_program_is_not_replaced_by_a_file(folder, gateway, log) -> None:
    own = from_yaml(TEXT.format(name="etl", kind="code", answer=0))
    revision = gateway.register_workflow("etl", own).revision
    folder.load()
    path = write(folder, "etl.yaml")
    await folder.reload()
    assert gateway.workflows["etl"].revision == revision
    assert "registered by the program" in errors(log)[0]
    path.unlink()
    await folder.reload()
    assert gateway.workflows["etl"].revision == revision


async def test_a_folder_that_vanishes_takes_nothing_away(folder, gateway, log) -> None:
    write(folder, "etl.yaml", answer=1)
    folder.load()
    aside = folder.folder.with_name("aside")
    folder.folder.rename(aside)
    await folder.reload()
    await folder.reload()
    assert list(gateway.workflows) == ["etl"]
    assert len(errors(log)) == 1
    aside.rename(folder.folder)
    write(folder, "etl.yaml", "other")
    await folder.reload()
    assert list(gateway.workflows) == ["other"]


class Served:
    """Waits, event by event, until the folder's workflows are what a test expects."""

    def __init__(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        self._gateway = gateway
        self._changed = asyncio.Event()
        take = WorkflowFolder._take

        def taken(folder, found) -> None:
            take(folder, found)
            self._changed.set()

        monkeypatch.setattr(WorkflowFolder, "_take", taken)

    async def until(self, *names: str) -> None:
        async with asyncio.timeout(30):
            while sorted(self._gateway.workflows) != sorted(names):
                await self._changed.wait()
                self._changed.clear()


async def test_changes_are_followed_without_being_asked(folder, gateway, monkeypatch) -> None:
    served = Served(gateway, monkeypatch)
    folder.load()
    async with folder.followed(by_itself=True):
        write(folder, "etl.yaml")
        await served.until("etl")
        draft = write(folder, "draft.tmp", "saved")  # as editors save: a new file takes the place of the old one
        draft.rename(folder.folder / "etl.yaml")
        await served.until("saved")
        (folder.folder / "etl.yaml").unlink()
        await served.until()


async def test_where_the_system_tells_of_no_changes_files_are_looked_at(folder, gateway, monkeypatch, log) -> None:
    def none_left(*_: object, **__: object) -> object:
        raise OSError("OS file watch limit reached.")

    monkeypatch.setattr(files, "awatch", none_left)
    monkeypatch.setattr(files, "LOOK_INTERVAL_S", 0.01)
    served = Served(gateway, monkeypatch)
    folder.load()
    async with folder.followed(by_itself=True):
        write(folder, "etl.yaml")
        await served.until("etl")
    (warning,) = [record.getMessage() for record in log.records if record.levelno == logging.WARNING]
    assert "does not tell of changes" in warning


async def test_sighup_reloads_also_when_nothing_is_followed(folder, gateway, monkeypatch) -> None:
    served = Served(gateway, monkeypatch)
    folder.load()
    async with folder.followed(by_itself=False):
        write(folder, "etl.yaml")
        os.kill(os.getpid(), signal.SIGHUP)
        await served.until("etl")


async def test_a_folder_that_is_replaced_goes_on_being_followed(folder, gateway, monkeypatch) -> None:
    monkeypatch.setattr(files, "LOOK_INTERVAL_S", 0.05)
    served = Served(gateway, monkeypatch)
    folder.load()
    async with folder.followed(by_itself=True):
        write(folder, "a.yaml", "first")
        await served.until("first")
        folder.folder.rename(folder.folder.with_name("aside"))
        folder.folder.mkdir()
        write(folder, "b.yaml", "second")
        await served.until("second")
        write(folder, "c.yaml", "third")
        await served.until("second", "third")
