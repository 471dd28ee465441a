"""Requests as the client's methods take them, turned into messages."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, TypedDict

from torana import _payload
from torana._native import event_kinds, from_native
from torana._references import Binding, binding
from torana.errors import InvalidRequestError, Violation
from torana.v1 import execution_pb2, execution_service_pb2


class RequestOptions(TypedDict, total=False):
    """What may accompany a workflow's name and parameters.

    `resources` binds names (see `Binding`). `context` is what steps read with `context.get`. `idempotency_key`: the
    same key and request start one execution; a random one is chosen when it is left out. `timeout` is the
    execution's own, in seconds. `cancel_on_disconnect` cancels it when no stream was attached to it for
    `disconnect_grace` (seconds, 30 by default).
    """

    resources: Mapping[str, Binding]
    context: Mapping[str, Any]
    revision: str
    idempotency_key: str | None
    timeout: float | timedelta | None
    labels: Mapping[str, str]
    session_id: str
    cancel_on_disconnect: bool
    disconnect_grace: float | timedelta | None


def workflow_request(
    workflow: str, parameters: Mapping[str, Any] | None, options: RequestOptions
) -> execution_pb2.WorkflowRequest:
    """Raises InvalidRequestError with the path of what cannot be sent, TypeError for an option that does not exist."""
    unknown = options.keys() - RequestOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(RequestOptions.__annotations__)
        raise TypeError(f"unexpected option {sorted(unknown)[0]!r}; there are {known}")
    if not isinstance(workflow, str) or not workflow:
        raise _refused("workflow", "must be the name of a workflow")
    plain = {name: value for name, value in options.items() if name not in ("resources", "context")}
    plain["idempotency_key"] = options.get("idempotency_key") or str(uuid.uuid4())
    request = from_native(execution_pb2.WorkflowRequest, {"workflow": workflow, **plain}, "")
    request.parameters.CopyFrom(_payload.encode_object(parameters or {}, "parameters"))
    request.context.CopyFrom(_payload.encode_object(options.get("context") or {}, "context"))
    for name, bound in (options.get("resources") or {}).items():
        request.resources[name].CopyFrom(binding(bound, f"resources.{name}"))
    return request


def event_filter(kinds: Iterable[str], steps: Iterable[str]) -> execution_service_pb2.EventFilter:
    """`kinds` are kinds of `Event`. Both empty: everything."""
    for name, given in (("kinds", kinds), ("steps", steps)):
        if isinstance(given, str):
            raise _refused(name, f"must be several names, such as ({given!r},)")
    return execution_service_pb2.EventFilter(kinds=event_kinds(kinds), steps=list(steps))


def sequence(after_sequence: int) -> int:
    if after_sequence < 0:
        raise _refused("after_sequence", "must be 0 or the sequence of an event")
    return after_sequence


def _refused(path: str, message: str) -> InvalidRequestError:
    violation = Violation(path, message)
    return InvalidRequestError("the request cannot be sent", reason="INVALID_REQUEST", violations=[violation])
