"""The settings of a command: defaults, the file, variables and options, each above the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import SecretStr

from torana_server.settings import sources
from torana_server.settings.journal_address import JOURNAL, has_password, with_password_apart
from torana_server.settings.model import Settings
from torana_server.settings.sources import DEFAULT, Layer, Origin

FLAGS: Final[Mapping[str, str]] = {"workflows_dir": "--workflows", "workflows_reload": "--no-reload"}
"""Options that are not spelled like their setting."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """`origins` are of the settings that any source sets. `file` is the one that was read."""

    settings: Settings
    origins: Mapping[str, Origin]
    file: Path | None

    def origin(self, name: str) -> Origin:
        return self.origins.get(name, DEFAULT)


def load_settings(options: Mapping[str, Any] | None = None, config: Path | None = None) -> LoadedSettings:
    """`options` are values by setting. The file is `config`, or what TORANA_CONFIG names, or `./torana.toml` if there
    is one.

    Raises InvalidRequestError with everything that is wrong, each under its origin and without its value.
    """
    path = sources.file_path(config)
    gathered = with_password_apart(sources.gather(_layers(path, options or {}), Settings.model_fields))
    return LoadedSettings(Settings.gathered(gathered), gathered.origins, path)


def secret_settings() -> list[str]:
    """The settings whose values are never shown."""
    return list(_of_type(SecretStr))


def _layers(path: Path | None, options: Mapping[str, Any]) -> Iterator[Layer]:
    if path is not None:
        yield sources.file(path, _is_secret, _of_type(Path))
    yield sources.variables()
    yield sources.options(options, FLAGS)


def _is_secret(name: str, value: object) -> bool:
    return name in secret_settings() or (name == JOURNAL and has_password(value))


def _of_type(kind: type) -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        if field.annotation is kind or kind in get_args(field.annotation):
            yield name
