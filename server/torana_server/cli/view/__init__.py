"""How executions look in a terminal, in a pipe and to a program. Pure: events in, text out."""

from torana_server.cli.view.execution import execution_heading, executions_listing, step_error_lines
from torana_server.cli.view.graph import Arrow, graph_lines
from torana_server.cli.view.json_lines import event_members, value_json
from torana_server.cli.view.lines import PlainLines
from torana_server.cli.view.listing import (
    Cell,
    Head,
    Listing,
    latency_cell,
    listing_table,
    names_cell,
    state_cell,
    tabbed_lines,
    text_cell,
    time_cell,
)
from torana_server.cli.view.outcome import error_lines, in_order, outcome_lines, result_lines
from torana_server.cli.view.state import ExecutionView, StepView, applied
from torana_server.cli.view.table import steps_table
from torana_server.cli.view.text import ago, milliseconds, one_line, plural, seconds
from torana_server.cli.view.typed import with_types
from torana_server.cli.view.waterfall import Attempt, Lane, Waterfall, lanes_of, lanes_of_statuses, waterfall_lines
from torana_server.cli.view.workflow import (
    plan_to_draw,
    retry_text,
    steps_listing,
    timeout_text,
    workflow_graph,
    workflow_heading,
)
from torana_server.cli.view.yaml_documents import yaml_text

__all__ = [
    "Arrow",
    "Attempt",
    "Cell",
    "ExecutionView",
    "Head",
    "Lane",
    "Listing",
    "PlainLines",
    "StepView",
    "Waterfall",
    "ago",
    "applied",
    "error_lines",
    "event_members",
    "execution_heading",
    "executions_listing",
    "graph_lines",
    "in_order",
    "lanes_of",
    "lanes_of_statuses",
    "latency_cell",
    "listing_table",
    "milliseconds",
    "names_cell",
    "one_line",
    "outcome_lines",
    "plan_to_draw",
    "plural",
    "result_lines",
    "retry_text",
    "seconds",
    "state_cell",
    "step_error_lines",
    "steps_listing",
    "steps_table",
    "tabbed_lines",
    "text_cell",
    "time_cell",
    "timeout_text",
    "value_json",
    "waterfall_lines",
    "with_types",
    "workflow_graph",
    "workflow_heading",
    "yaml_text",
]
