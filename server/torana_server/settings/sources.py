"""Where settings come from: the values of each source, and what a source calls them.

The environment is read here and nowhere else. An empty variable counts as one that is not set.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from torana_server.core.errors import InvalidRequestError, Violation
from torana_server.core.names import did_you_mean

PREFIX: Final = "TORANA_"
CONFIG_VARIABLE: Final = "TORANA_CONFIG"
SERVER_VARIABLE: Final = "TORANA_SERVER"
DEBUG_VARIABLE: Final = "TORANA_DEBUG"
NO_SETTINGS: Final = (CONFIG_VARIABLE, SERVER_VARIABLE, DEBUG_VARIABLE)
"""Of the commands: where the file of settings is, which server to talk to, whether defects are shown whole."""
FILE_NAME: Final = "torana.toml"

_SERVICE_LINK = re.compile(r"TORANA_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_.+)?)?)")
"""What Kubernetes puts into every container beside a service whose name begins with `torana`."""


class Origin(NamedTuple):
    """`name` is what the operator would look for: `TORANA_ADDRESS`, `--address`, `torana.toml: address`."""

    kind: Literal["default", "file", "variable", "option", "argument"]
    name: str


DEFAULT: Final = Origin("default", "default")


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one source by setting, and the origin it has for each. `known` spells settings as the source does,
    for the nearest to one that is unknown. `problems` are of the source as a whole."""

    values: Mapping[str, Any]
    origin: Callable[[str], Origin]
    known: Callable[[str], str] = str
    problems: tuple[Violation, ...] = ()

    def violations(self, settings: Collection[str]) -> Iterator[Violation]:
        yield from self.problems
        spelled = [self.known(name) for name in settings]
        for name in (name for name in self.values if name not in settings):
            if isinstance(self.values[name], dict):
                yield Violation(self.origin(name).name, "is a table, but settings are flat: write `name = value`")
            else:
                near = did_you_mean(self.known(name.replace("-", "_").lower()), spelled)
                yield Violation(self.origin(name).name, f"is no setting{near}")


def arguments(values: Mapping[str, Any]) -> Layer:
    """Of `Settings(...)` in Python."""
    return Layer(values, lambda name: Origin("argument", f"Settings({name}=…)"))


def options(values: Mapping[str, Any], flags: Mapping[str, str]) -> Layer:
    """Of a command. `flags` are those that are not spelled like their setting."""
    return Layer(values, lambda name: Origin("option", flags.get(name, f"--{name.replace('_', '-')}")))


def variables() -> Layer:
    def origin(name: str) -> Origin:
        return Origin("variable", variable(name))

    found = {name: value for name, value in os.environ.items() if name.startswith(PREFIX) and name not in NO_SETTINGS}
    values = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in found.items()
        if value and not _SERVICE_LINK.fullmatch(name)
    }
    return Layer(values, origin, variable)


def environment(**settings: str) -> dict[str, str]:
    """That of this process with these settings, for a process that it starts."""
    return {**os.environ, **{variable(name): value for name, value in settings.items()}}


def variable(setting: str) -> str:
    """The variable of a setting."""
    return f"{PREFIX}{setting.upper()}"


def file_path(given: Path | None) -> Path | None:
    """The file that was asked for, or else `torana.toml` if the working folder has one."""
    if given is not None:
        return given
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return Path(FILE_NAME) if Path(FILE_NAME).exists() else None


def file(path: Path, is_secret: Callable[[str, object], bool], paths: Iterable[str]) -> Layer:
    """Of a TOML file. The settings in `paths` are relative to its folder. Others may not read one that holds a setting
    and value of which `is_secret` holds."""

    def origin(name: str) -> Origin:
        return Origin("file", f"{path}: {name}")

    try:
        values, mode = _read(path)
    except _UnreadableError as error:
        return Layer({}, origin, problems=(Violation(str(path), str(error)),))
    placed = {name: path.parent / values[name] for name in paths if isinstance(values.get(name), str)}
    secret = sorted(name for name, value in values.items() if is_secret(name, value))
    exposed = secret if os.name != "nt" and mode & 0o077 else []
    problem = f"the file has mode {stat.S_IMODE(mode):04o}, so others may read what is secret; run: chmod 600 {path}"
    return Layer(
        {**values, **placed}, origin, problems=tuple(Violation(origin(name).name, problem) for name in exposed)
    )


class _UnreadableError(Exception):
    pass


def _read(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as opened:
            return tomllib.load(opened), os.fstat(opened.fileno()).st_mode
    except OSError as error:
        raise _UnreadableError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _UnreadableError("is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise _UnreadableError(f"is not TOML: {error}") from None


def refused(violations: Iterable[Violation]) -> InvalidRequestError:
    return InvalidRequestError("the settings cannot be used", violations=violations)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What all sources say together. `origins` are of what any of them sets."""

    values: Mapping[str, Any]
    origins: Mapping[str, Origin]
    violations: tuple[Violation, ...]


def gather(layers: Iterable[Layer], settings: Collection[str]) -> Gathered:
    """Later layers stand above earlier ones."""
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    violations: list[Violation] = []
    for layer in layers:
        violations += layer.violations(settings)
        for name in (name for name in settings if name in layer.values):
            values[name], origins[name] = layer.values[name], layer.origin(name)
    return Gathered(values, origins, tuple(violations))
