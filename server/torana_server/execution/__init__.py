"""Executions: events, state, scheduling, the engine that drives them and the feed that streams them."""

from torana_server.execution.admission import AdmissionLimits
from torana_server.execution.engine import Engine
from torana_server.execution.events import (
    JOURNAL_FORMAT,
    TERMINAL_KINDS,
    Event,
    EventKind,
    ExecutionError,
    LogLevel,
)
from torana_server.execution.executor import Services
from torana_server.execution.feed import ALL_EVENTS, Batch, EventFilter, Watch, WatchAll
from torana_server.execution.filters import EVERYTHING, Filter, parse
from torana_server.execution.ports import (
    TERMINAL_STATES,
    EventCodec,
    ExecutionState,
    Journal,
    ResourceBinder,
    StoredEvent,
    Summary,
)
from torana_server.execution.request import ExecutionRequest
from torana_server.execution.state import State, StepPhase, StepState
from torana_server.execution.views import ExecutionView, StartedExecution

__all__ = [
    "ALL_EVENTS",
    "EVERYTHING",
    "JOURNAL_FORMAT",
    "TERMINAL_KINDS",
    "TERMINAL_STATES",
    "AdmissionLimits",
    "Batch",
    "Engine",
    "Event",
    "EventCodec",
    "EventFilter",
    "EventKind",
    "ExecutionError",
    "ExecutionRequest",
    "ExecutionState",
    "ExecutionView",
    "Filter",
    "Journal",
    "LogLevel",
    "ResourceBinder",
    "Services",
    "StartedExecution",
    "State",
    "StepPhase",
    "StepState",
    "StoredEvent",
    "Summary",
    "Watch",
    "WatchAll",
    "parse",
]
