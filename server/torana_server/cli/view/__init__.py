"""How executions look in a terminal, in a pipe and to a program. Pure: events in, text out."""

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
from torana_server.cli.view.outcome import in_order, outcome_lines, result_lines
from torana_server.cli.view.state import ExecutionView, StepView, applied
from torana_server.cli.view.table import steps_table
from torana_server.cli.view.text import ago, milliseconds, one_line, plural, seconds
from torana_server.cli.view.yaml_documents import yaml_text

__all__ = [
    "Cell",
    "ExecutionView",
    "Head",
    "Listing",
    "PlainLines",
    "StepView",
    "ago",
    "applied",
    "event_members",
    "in_order",
    "latency_cell",
    "listing_table",
    "milliseconds",
    "names_cell",
    "one_line",
    "outcome_lines",
    "plural",
    "result_lines",
    "seconds",
    "state_cell",
    "steps_table",
    "tabbed_lines",
    "text_cell",
    "time_cell",
    "value_json",
    "yaml_text",
]
