"""How executions look in a terminal, in a pipe and to a program. Pure: events in, text out."""

from torana_server.cli.view.json_lines import event_json, value_json
from torana_server.cli.view.lines import PlainLines
from torana_server.cli.view.outcome import in_order, outcome_lines, result_lines
from torana_server.cli.view.state import ExecutionView, StepView, applied
from torana_server.cli.view.table import steps_table
from torana_server.cli.view.text import one_line, seconds

__all__ = [
    "ExecutionView",
    "PlainLines",
    "StepView",
    "applied",
    "event_json",
    "in_order",
    "one_line",
    "outcome_lines",
    "result_lines",
    "seconds",
    "steps_table",
    "value_json",
]
