"""The log of a server process, and what an embedded gateway leaves alone."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import torana
from servers import ServerProcess, running_server
from torana_server import Gateway, WorkflowBuilder, WorkflowRequest
from torana_server.core.logs import RESERVED

ROOT = Path(__file__).resolve().parents[2]
FORGED = 'x\n{"level": "info", "message": "forged"}\x1b[2J\u202e'
OWN = {"time", "level", "logger", "message", "exception", "stack"}


def lines_of(server: ServerProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text("utf-8").splitlines()]


def documented() -> set[str]:
    page = (ROOT / "docs" / "logging.md").read_text("utf-8")
    table = page.split("## Fields")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


async def test_every_line_written_in_the_course_of_a_step_says_which(tmp_path: Path) -> None:
    with running_server("served.chatty", tmp_path / "data") as server:
        async with torana.Client(server.address) as client:
            result = await client.execute_workflow("talks", {"text": FORGED})
            assert result.is_success
            failed = await client.execute_workflow("fails")
        server.stop()
    theirs = [line for line in lines_of(server) if line["logger"] == "their.library"]
    said = {line["message"]: (line["step"], line["attempt"]) for line in theirs}
    assert said == {
        "step " + "x\\n" + '{"level": "info", "message": "forged"}' + "\\x1b[2J\\u202e": ("talk", 1),
        "task": ("talk", 1),
        "to_thread": ("talk", 1),
        "source": ("source", 1),
        "def": ("block", 1),
        "trouble": ("fail", 1),
    }
    places = {(line["execution"], line["workflow"], line["tenant"]) for line in theirs}
    assert places == {(result.execution_id, "talks", "local"), (failed.execution_id, "fails", "local")}
    trouble = theirs[-1]
    assert trouble["error_type"] == "ValueError"
    assert all(line.startswith("  ") for line in trouble["exception"].split("\n"))
    (loaded,) = [line for line in lines_of(server) if line["message"] == "loaded"]
    assert (loaded["logger"], loaded["rows"], loaded["execution"]) == ("torana.steps", 3, result.execution_id)


async def test_the_lines_of_a_call_and_of_its_execution_can_be_joined(tmp_path: Path) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with running_server("served.chatty", tmp_path / "data", log_level="DEBUG", access_log=1) as server:
        named = {"x-request-id": "order-7", "traceparent": trace}
        async with torana.Client(server.address, metadata=named) as client:
            result = await client.execute_workflow("talks")
        server.stop()
    lines = lines_of(server)
    (accepted,) = [line for line in lines if line["message"] == "execution accepted"]
    assert (accepted["request_id"], accepted["execution"]) == ("order-7", result.execution_id)
    assert (accepted["trace_id"], accepted["span_id"]) == (trace[3:35], trace[36:52])
    call = next(line for line in lines if line["message"].startswith("call ") and line["request_id"] == "order-7")
    assert (call["rpc"], call["code"], call["tenant"]) == ("/torana.v1.ExecutionService/Execute", "OK", "local")
    own = [line["message"] for line in lines if line.get("execution") == result.execution_id]
    assert own.count("step started") == own.count("step completed") == 3
    assert own[-1] == "the execution ended"


async def test_every_field_of_the_servers_own_lines_is_documented(tmp_path: Path) -> None:
    with running_server("served.chatty", tmp_path / "data", log_level="DEBUG", access_log=1) as server:
        async with torana.Client(server.address) as client:
            await client.execute_workflow("talks")
            await client.execute_workflow("fails")
        server.stop()
    lines = [line for line in lines_of(server) if line["logger"].startswith("torana.") and line["message"] != "loaded"]
    assert {key for line in lines for key in line} <= documented()
    assert {line["logger"] for line in lines} >= {"torana.gateway", "torana.rpc", "torana.execution", "torana.steps"}


def test_every_field_that_the_code_can_write_is_documented_and_the_other_way_round() -> None:
    written = set(OWN) | {"error_type", "trace_id", "span_id"}
    for path in (ROOT / "server" / "torana_server").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            written |= _fields_in(node)
    assert written == documented()
    assert OWN == RESERVED


def _fields_in(node: ast.AST) -> set[str]:
    """The keys of dicts given as `extra=`, and all keys of functions that put the fields of a line together."""
    if isinstance(node, ast.keyword) and node.arg == "extra":
        return _keys([node.value])
    if isinstance(node, ast.FunctionDef) and (node.name == "log_fields" or _puts_fields_together(node)):
        return _keys(list(ast.walk(node)))
    return set()


def _keys(nodes: Sequence[ast.AST]) -> set[str]:
    keys = [key for node in nodes if isinstance(node, ast.Dict) for key in node.keys]
    keys += [node.slice for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)]
    return {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def _puts_fields_together(function: ast.FunctionDef) -> bool:
    extras = [node.value for node in ast.walk(function) if isinstance(node, ast.keyword) and node.arg == "extra"]
    return any(isinstance(extra, ast.Name) for extra in extras)


async def test_an_embedded_gateway_leaves_the_programs_logging_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), list(root.filters), root.level, logging.getLogRecordFactory())
    caplog.set_level(logging.DEBUG, logger="torana")
    gateway = Gateway(data_dir=tmp_path)
    gateway.register_workflow("w", WorkflowBuilder("w").add_async_code("s", "logger.info('hello')").build())
    async with gateway:
        response = await gateway.execute_workflow("w")
    assert (list(root.handlers), list(root.filters), root.level, logging.getLogRecordFactory()) == before
    records: list[Any] = [record for record in caplog.records if record.name.startswith("torana.")]
    (hello,) = [record for record in records if record.message == "hello"]
    assert (hello.execution, hello.workflow, hello.step) == (response.execution_id, "w", "s")
    assert {"step started", "step completed", "the execution ended"} <= {record.message for record in records}


async def test_the_line_about_a_failure_says_step_and_error_to_any_formatter(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="torana.execution")
    gateway = Gateway(data_dir=tmp_path)
    gateway.register_workflow("w", WorkflowBuilder("w").add_async_code("s", "raise ValueError('no rate')").build())
    async with gateway:
        await gateway.execute_workflow("w")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "torana.execution"]
    assert line == "the execution failed: step 's', attempt 1: ValueError: no rate"


async def test_what_a_resource_was_resolved_to_can_be_traced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="torana.resources")
    gateway = Gateway(data_dir=tmp_path)
    source = "first = await get_resource('api')\nreturn None"
    gateway.register_workflow("w", WorkflowBuilder("w").add_async_code("s", source).build())
    gateway.register_workflow("later", WorkflowBuilder("later").add_async_code("s", source).build())
    async with gateway:
        await gateway.secret_manager.store_secret("token", {"token": "canary-canary-canary"})
        reference = {"type": "http_client", "config": {"base_url": "http://127.0.0.1:1"}, "credentials_ref": "token"}
        for name in ("w", "later"):
            response = await gateway.execute_workflow(name, WorkflowRequest(resources={"api": reference}))
            assert response.status == "completed", response.error
    first, second = [record for record in caplog.records if record.message == "resource resolved"]
    seen: Any = first
    assert (seen.resource, seen.resource_type, seen.reused, seen.step) == ("api", "http_client", False, "s")
    assert "127.0.0.1:1" in seen.target
    assert seen.duration_ms >= 0
    again: Any = second
    assert (again.pool, again.reused, again.workflow) == (seen.pool, True, "later")
    assert "canary" not in caplog.text


async def test_a_server_told_to_records_what_attempts_are_given_and_return_for_any_client(tmp_path: Path) -> None:
    with running_server("served.chatty", tmp_path / "data", debug_workflows="talks, other") as server:
        async with torana.Client(server.address) as client:
            events = [event async for event in client.execute("talks", {"text": "tea"})]
            again = [event async for event in client.watch(events[0].execution)]
            plain = [event async for event in client.execute("fails")]
        server.stop()
    logged = [event for event in events if event.kind == "step_log"]
    seen = [(event.step, event.data["level"], event.data["data"]) for event in logged if event.data["data"]]
    assert ("talk", "debug", {"inputs": {"text": "tea"}}) in seen
    assert ("source", "info", {"rows": 3}) in seen
    assert ("source", "debug", {"output": 1}) in seen
    assert [event.data["message"] for event in logged if event.step == "talk"][1] == "quiet"
    assert [event.data for event in again] == [event.data for event in events]
    assert not [event for event in plain if event.kind == "step_log"]
