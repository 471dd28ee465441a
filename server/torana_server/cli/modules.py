"""A gateway made in Python, found by the name an operator types: `shop:gateway`, `shop/app.py:make_gateway`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from torana_server.cli import output
from torana_server.cli.exits import UsageError
from torana_server.core.names import did_you_mean
from torana_server.gateway import Gateway
from torana_server.settings import LoadedSettings, settings_in_force

FORM = "write MODULE:NAME, such as shop:gateway or shop/app.py:gateway"
OF_THE_COMMAND = ("address", "workflows_dir", "workflows_reload")
"""Settings that the command itself heeds, whoever made the gateway."""

_NOT_THE_USERS = (str(Path(__file__).resolve().parents[1]), str(Path(importlib.__file__).parent), "<frozen importlib")


def gateway_named(target: str, loaded: LoadedSettings) -> Gateway:
    """The gateway, or what a function of that name returns. One made without `settings` takes those of the command.

    Raises UsageError for what cannot be found or used, and for options that the gateway overrides.
    """
    module_name, colon, name = target.rpartition(":")
    if not (colon and module_name and name):
        raise UsageError(_no_target(target))
    with settings_in_force(loaded.settings):
        gateway = _made(_attribute(_imported(module_name), name, target), target)
    _require_heeded(gateway, loaded, target)
    return gateway


def _no_target(target: str) -> str:
    if Path(target).is_dir():
        return f"{target} is a folder; for the YAML files in it give --workflows {target}"
    return f"{target!r} does not name a gateway: {FORM}"


def _imported(name: str) -> ModuleType:
    is_file = name.endswith(".py")
    if is_file and not Path(name).is_file():
        raise UsageError(f"there is no file {name}{did_you_mean(name, map(str, Path(name).parent.glob('*.py')))}")
    sys.path.insert(0, str(Path(name).resolve().parent if is_file else Path.cwd()))
    try:
        return _file(Path(name)) if is_file else importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not is_file and f"{name}.".startswith(f"{error.name}."):
            near = did_you_mean(error.name, _modules_here())
            raise UsageError(f"there is no module {error.name!r} here or installed{near}") from None
        raise _told(error, f"{name} cannot be imported: it needs the module {error.name!r}") from None
    except Exception as error:  # noqa: BLE001 — whatever the user's module raises is theirs to see
        raise _told(error, f"{name} cannot be imported") from None


def _file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "a name that ends in .py has a loader"
    assert spec.loader is not None, "a name that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _modules_here() -> Iterable[str]:
    yield from (path.stem for path in Path().glob("*.py"))
    yield from (path.parent.name for path in Path().glob("*/__init__.py"))


def _attribute(module: ModuleType, name: str, target: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            gateways = [key for key, value in vars(module).items() if isinstance(value, Gateway)]
            near = did_you_mean(part, dir(found)) or (f"; it has the gateway {gateways[0]!r}" if gateways else "")
            raise UsageError(f"{target}: {found.__name__} has no {part!r}{near}")
        found = getattr(found, part)
    return found


def _made(found: Any, target: str) -> Gateway:
    if isinstance(found, Gateway):
        return found
    if not callable(found):
        raise UsageError(f"{target} is {_a(found)}; it must be a Gateway, or a function that returns one")
    try:
        inspect.signature(found).bind()
    except TypeError:
        raise UsageError(
            f"{target} needs arguments; it must be a function without any that returns a Gateway"
        ) from None
    try:
        made = found()
    except Exception as error:  # noqa: BLE001 — whatever the user's function raises is theirs to see
        raise _told(error, f"{target} failed") from None
    if inspect.iscoroutine(made):
        made.close()
        raise UsageError(f"{target} is an async function; make it a plain one that returns a Gateway")
    if not isinstance(made, Gateway):
        raise UsageError(f"{target} returned {_a(made)}; it must return a Gateway")
    return made


def _a(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _require_heeded(gateway: Gateway, loaded: LoadedSettings, target: str) -> None:
    """What code says stands above variables and the file; an option that has no effect is a mistake."""
    ignored = {
        name: origin
        for name, origin in loaded.origins.items()
        if name not in OF_THE_COMMAND and getattr(gateway.settings, name) != getattr(loaded.settings, name)
    }
    options = [origin.name for origin in ignored.values() if origin.kind == "option"]
    if options:
        raise UsageError(f"{', '.join(sorted(options))}: {target} decides that itself; leave the option out")
    for origin in ignored.values():
        if origin.kind == "file":
            output.note(f"{origin.name} has no effect: {target} decides that itself")


def _told(error: Exception, message: str) -> UsageError:
    """The error with the user's own lines on standard error, and the message to end with."""
    told = traceback.TracebackException.from_exception(error)
    own = [frame for frame in told.stack if not frame.filename.startswith(_NOT_THE_USERS)]
    told.stack = traceback.StackSummary.from_list(own)
    output.stderr().print("".join(told.format()).rstrip())
    return UsageError(message)
