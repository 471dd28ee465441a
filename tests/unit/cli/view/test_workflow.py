"""Workflows for people."""

from __future__ import annotations

from torana_server.cli.view import plan_to_draw, steps_listing, tabbed_lines, workflow_graph, workflow_heading
from torana_server.workflow import from_yaml

TEXT = """
name: orders
description: Sorts orders.
timeout: 5m
retry: {max_attempts: 3, initial_interval: 0.5}
steps:
  - {name: load, type: of_the_servers_own, required_resources: [db]}
  - {name: triage, type: switch, config: {field: kind, cases: {high: 1}}}
  - {name: act, type: code, retry: {max_attempts: 2}, timeout: {attempt: 10, total: 60}}
  - {name: tell, type: code, inputs: {what: "{{act.done}}"}}
connections:
  - {from_step: load, to_step: triage}
  - {from_step: triage, to_step: act, route: high}
  - {from_step: load, to_step: tell, route: error}
"""
PLAN = plan_to_draw(from_yaml(TEXT))


def test_types_that_only_the_server_knows_are_drawn_too() -> None:
    graph = "\n".join(line.plain for line in workflow_graph(PLAN, width=80, unicode=True))
    assert all(f"│ {name} │" in graph for name in ("load", "triage", "act", "tell"))
    assert "high" in graph
    assert "error from load" in graph


def test_too_narrow_for_boxes_becomes_a_list_of_edges() -> None:
    lines = [line.plain for line in workflow_graph(PLAN, width=12, unicode=False)]
    assert "  1  * load" in lines
    assert "     `- error -> tell" in lines
    assert "     `- high -> act" in lines


def test_the_heading_tells_what_holds_for_the_whole_workflow() -> None:
    lines = [line.plain for line in workflow_heading(PLAN)]
    assert lines[0].startswith("orders  4 steps in 4 layers  revision ")
    assert lines[1:] == [
        "Sorts orders.",
        "resources  db",
        "timeout    5m",
        "retry      3 tries, 0.5s x2 up to 60s",
    ]


def test_each_step_has_its_layer_what_it_waits_for_and_what_is_its_own() -> None:
    rows = [line.split("\t") for line in tabbed_lines(steps_listing(PLAN))]
    assert rows == [
        ["1", "load", "of_the_servers_own", "", "db", "", ""],
        ["2", "triage", "switch", "load", "", "", ""],
        ["3", "act", "code", "triage:high", "", "2 tries, 1s x2 up to 60s", "10s (60s in all)"],
        ["4", "tell", "code", "load:error, act (template)", "", "", ""],
    ]
