"""The operator's functions: what function steps run and source steps may call by name."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torana_server.core.errors import ConflictError, InvalidRequestError, Reason, StepError

CONTEXT_PARAMETER = "ctx"

_BY_NAME = frozenset({inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY})


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
"""Dots, so that `module.qualname` is a name."""


@dataclass(frozen=True, slots=True)
class Function:
    """A registered function and what it takes. `requirement` is how servers and journals name it."""

    name: str
    version: str
    call: Callable[..., Any]
    is_async: bool
    required: tuple[str, ...]
    optional: tuple[str, ...]
    takes_context: bool
    takes_rest: bool

    @property
    def requirement(self) -> str:
        return requirement(self.name, self.version)

    def arguments(self, inputs: Mapping[str, object]) -> dict[str, object]:
        """The inputs the function takes. Raises StepError (INPUT_NOT_FOUND) naming what is missing."""
        if self.takes_rest:
            given = dict(inputs)
            if self.takes_context:
                given.pop(CONTEXT_PARAMETER, None)
        else:
            given = {name: inputs[name] for name in (*self.required, *self.optional) if name in inputs}
        missing = [name for name in self.required if name not in given]
        if missing:
            raise missing_input(missing, f"function {self.name!r}", inputs)
        return given


def requirement(name: str, version: str) -> str:
    return f"function:{name}@{version}"


def missing_input(names: list[str], whose: str, inputs: Mapping[str, object]) -> StepError:
    supplied = ", ".join(sorted(inputs)) or "none"
    return StepError(
        f"{whose} needs {', '.join(map(repr, names))}, which nothing supplied: no parameter, connection or static "
        f"input has that name; supplied: {supplied}",
        reason=Reason.INPUT_NOT_FOUND,
        metadata={"input": names[0], "supplied": supplied},
    )


class FunctionRegistry:
    """Functions by name and version. The version is the operator's word for "this behaves differently now"."""

    def __init__(self) -> None:
        self._functions: dict[tuple[str, str], Function] = {}
        self._latest: Mapping[str, Function] = MappingProxyType({})
        self._callables: Mapping[str, Callable[..., Any]] = MappingProxyType({})
        self._names: frozenset[str] = frozenset()

    @property
    def latest(self) -> Mapping[str, Function]:
        """The version registered last of every name."""
        return self._latest

    @property
    def callables(self) -> Mapping[str, Callable[..., Any]]:
        """What `latest` calls, by name: the functions a source step sees."""
        return self._callables

    @property
    def names(self) -> frozenset[str]:
        return self._names

    def register(self, name: str, fn: Callable[..., Any], version: str = "1") -> None:
        """Raises InvalidRequestError for a function whose inputs cannot be given by name, ConflictError when the name
        and version belong to another function. Registering the same again changes nothing."""
        function = _inspected(name, fn, version)
        known = self._functions.get((name, version))
        if known is not None and known.call is not fn:
            raise ConflictError(
                f"function {name!r} version {version!r} is registered already; give the changed function a new version"
            )
        self._functions[name, version] = function
        self._latest = MappingProxyType({**self._latest, name: function})
        self._callables = MappingProxyType({**self._callables, name: fn})
        self._names = frozenset(self._latest)

    def get(self, name: str, version: str) -> Function | None:
        return self._functions.get((name, version))

    def requirements(self) -> frozenset[str]:
        """`function:NAME@VERSION` of each, as `StepSpec.requires` writes it."""
        return frozenset(function.requirement for function in self._functions.values())

    def describe(self) -> str:
        return ", ".join(f"{name} (version {version})" for name, version in sorted(self._functions)) or "none"


def _inspected(name: str, fn: Callable[..., Any], version: str) -> Function:
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(f"{name!r} cannot name a function: it needs a letter, then letters, digits, or '_.-'")
    if not version or not isinstance(version, str):
        raise InvalidRequestError(f"the version of function {name!r} must be a text that is not empty")
    if not callable(fn):
        raise InvalidRequestError(f"function {name!r} must be callable, not {type(fn).__name__}")
    unwrapped = _underlying(fn)
    if inspect.isgeneratorfunction(unwrapped) or inspect.isasyncgenfunction(unwrapped):
        raise InvalidRequestError(f"function {name!r} must return its output, not yield; use ctx.emit for parts of it")
    parameters = _parameters(name, fn)
    named = [p for p in parameters if p.kind in _BY_NAME and p.name != CONTEXT_PARAMETER]
    return Function(
        name=name,
        version=version,
        call=fn,
        is_async=inspect.iscoroutinefunction(unwrapped),
        required=tuple(p.name for p in named if p.default is p.empty),
        optional=tuple(p.name for p in named if p.default is not p.empty),
        takes_context=any(p.name == CONTEXT_PARAMETER and p.kind in _BY_NAME for p in parameters),
        takes_rest=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def _underlying(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose kind decides how to call it: of a partial what it wraps, of an object its `__call__`."""
    if isinstance(fn, functools.partial):
        return _underlying(fn.func)
    if inspect.isroutine(fn) or inspect.isclass(fn):
        return fn
    return type(fn).__call__


def _parameters(name: str, fn: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"function {name!r} tells no parameters; wrap it in a def that does") from error
    unnamed = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    if unnamed:
        raise InvalidRequestError(
            f"function {name!r} takes {', '.join(unnamed)} by position only; inputs are given by name"
        )
    return parameters
