"""Every setting of a server: one frozen object.

A setting's description is its documentation; units stand last in its name.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from torana_server.core.errors import Violation
from torana_server.core.limits import KIB, MIB
from torana_server.settings.journal_address import checked, checked_schema, is_address, with_password_apart
from torana_server.settings.sources import Gathered, Origin, arguments, gather, refused, variables

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Settings(BaseModel):
    """Defaults suit one developer on one machine: loopback, SQLite in `./torana-data`, a generated vault key.

    `Settings(...)` takes arguments above `TORANA_*` variables above defaults. It reads no file. Raises
    InvalidRequestError with everything that is wrong, each under the argument or variable it came from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    title: str = Field("Torana", description="What the server calls itself in GetInfo.", max_length=200)
    description: str = Field("", description="What the server is for, in GetInfo.", max_length=2_000)

    data_dir: Path = Field(Path("torana-data"), description="Folder of journal, vault and generated key; mode 0700.")
    journal: str = Field(
        "sqlite",
        description="Where executions and secrets are kept: `sqlite`, `memory`, which survives nothing, or "
        "`postgresql://USER@HOST/DATABASE`, for several servers.",
    )
    journal_password: SecretStr | None = Field(
        None, description="Of the PostgreSQL user, unless PGPASSWORD or `~/.pgpass` has it."
    )
    journal_schema: str = Field("torana", description="Schema of the tables in PostgreSQL; made if it is not there.")
    journal_readers_max: int = Field(
        8, ge=1, le=1_000, description="Connections to PostgreSQL for reading; seven more are for everything else."
    )
    journal_wait_s: float = Field(
        30.0, ge=0, le=3_600, description="How long a start waits for a PostgreSQL that does not answer."
    )
    lease_s: float = Field(
        6.0, ge=1, le=600, description="A server not heard of for so long loses its executions to the others."
    )
    disk_reserve_bytes: int = Field(
        64 * MIB, ge=0, description="Free space below which nothing new is accepted, so that what runs can finish."
    )

    address: str = Field("127.0.0.1:7233", description="host:port or unix:PATH to listen on.")
    workers: int = Field(
        1, ge=1, le=256, description="Processes that `torana serve` starts on its port; more than one need PostgreSQL."
    )
    port_shared: bool = Field(
        False, description="Let other servers of this machine listen on the same port; needs PostgreSQL."
    )
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM). With `tls_key`: the server speaks TLS.")
    tls_key: Path | None = Field(None, description="Private key (PEM).")
    tls_client_ca: Path | None = Field(None, description="CA that clients' certificates must come from (mTLS).")
    allow_insecure: bool = Field(False, description="Listen on an address beyond this machine without TLS.")
    reflection: bool = Field(True, description="Offer server reflection (v1 and v1alpha).")
    message_bytes_max: int = Field(4 * MIB, ge=64 * KIB, le=64 * MIB, description="Largest message received or sent.")
    streams_max: int = Field(5_000, ge=1, le=100_000, description="Streams open at once, over all connections.")
    stream_age_s_max: float = Field(
        900.0, ge=1, le=86_400, description="After this long a stream ends and the client resumes it."
    )
    heartbeat_interval_s: float = Field(
        15.0, ge=1, le=60, description="How often a quiet stream says that it lives, unless the client asks otherwise."
    )
    drain_grace_s: float = Field(
        30.0, ge=0, le=3_600, description="How long a stopping server lets running steps finish."
    )

    workflows_dir: Path | None = Field(None, description="Folder of YAML files, each a workflow to serve.")
    workflows_reload: bool = Field(True, description="Follow changes in `workflows_dir`. SIGHUP reloads in any case.")
    running_max: int = Field(1_000, ge=1, le=100_000, description="Executions running at once.")
    running_per_tenant_max: int = Field(1_000, ge=1, le=100_000, description="The same, per tenant.")
    running_per_workflow_max: int = Field(1_000, ge=1, le=100_000, description="The same, per tenant and workflow.")
    queued_max: int = Field(10_000, ge=0, le=1_000_000, description="Accepted executions that wait for a place.")
    queue_timeout_s: float | None = Field(None, gt=0, description="How long one may wait. Unset: as long as it takes.")
    cancel_grace_s: float = Field(10.0, ge=0, le=600, description="How long a cancelled step may clean up.")
    threads_max: int = Field(16, ge=1, le=1_000, description="Threads for steps that are plain `def` functions.")
    lag_warning_ms: float = Field(
        100.0, ge=10, le=10_000, description="Event-loop lag above which the step that caused it is named."
    )
    template_env: tuple[str, ...] = Field(
        (), description="Environment variables that `${env.NAME}` may read. In a variable: names with commas between."
    )

    vault_keys: SecretStr | None = Field(
        None, description="Keyring of the vault: `id:base64[,id:base64]`, primary first."
    )
    vault_keys_file: Path | None = Field(None, description="File with the keyring, mode 0600.")
    production: bool = Field(False, description="Refuse to start on a generated vault key.")
    secret_cache_ttl_s: float = Field(
        300.0, ge=0, le=86_400, description="How long a decrypted secret is kept. 0: not at all."
    )

    pool_idle_timeout_s: float = Field(300.0, gt=0, le=86_400, description="An unused pool closes after this.")
    pool_open_timeout_s: float = Field(10.0, gt=0, le=600, description="Opening a pool takes at most this.")
    health_check_interval_s: float = Field(30.0, ge=1, le=3_600, description="How often live pools are checked.")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lines below it are dropped.")
    access_log: bool = Field(False, description="A log line for every call, not only for those that fail.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: for people on a terminal, JSON elsewhere."
    )

    debug_workflows: tuple[str, ...] = Field(
        (), description="Workflows in debug mode: what their steps are given and return become events."
    )

    @field_validator("journal", mode="before")
    @classmethod
    def _journal(cls, journal: object) -> object:
        return checked(journal)

    @field_validator("journal_schema")
    @classmethod
    def _schema(cls, name: str) -> str:
        return checked_schema(name)

    @field_validator("template_env", "debug_workflows", mode="before")
    @classmethod
    def _names(cls, names: object) -> object:
        """`HOME,LANG` is how a variable of the environment says it."""
        return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else names

    @field_validator("template_env")
    @classmethod
    def _variables(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if all(map(_VARIABLE.fullmatch, names)):
            return names
        raise ValueError("write names of variables with commas between, such as REGION,STAGE")

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level

    @field_validator("address")
    @classmethod
    def _address(cls, address: str) -> str:
        host, colon, port = address.rpartition(":")
        if address.startswith("unix:") or (colon and host and port.isdigit() and int(port) < 65_536):
            return address
        raise ValueError("write host:port, such as 127.0.0.1:7233, [::1]:7233 or unix:/run/torana.sock")

    if not TYPE_CHECKING:  # for checkers and editors the fields are the arguments

        def __init__(self, **values: Any) -> None:
            gathered = gather([variables(), arguments(values)], type(self).model_fields)
            self._take(with_password_apart(gathered))

    @classmethod
    def gathered(cls, gathered: Gathered) -> Settings:
        """From sources of the caller's choice, and no other. Raises InvalidRequestError as `Settings(...)` does."""
        settings = cls.__new__(cls)
        settings._take(gathered)
        return settings

    def _take(self, gathered: Gathered) -> None:
        violations = list(gathered.violations)
        try:
            super().__init__(**gathered.values)
        except ValidationError as error:
            violations += _violations(error, gathered.origins)
        if violations:
            raise refused(violations) from None

    @property
    def on_postgresql(self) -> bool:
        return is_address(self.journal)

    def template_environment(self) -> dict[str, str]:
        """What `${env.NAME}` may read, as it is now."""
        return {name: os.environ[name] for name in self.template_env if name in os.environ}


def _violations(error: ValidationError, origins: Mapping[str, Origin]) -> Iterator[Violation]:
    """Never with the value, which may be secret."""
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0])
        yield Violation(origins[name].name, problem["msg"].removeprefix("Value error, "))


_in_force: ContextVar[Settings | None] = ContextVar("torana_settings", default=None)


def current_settings() -> Settings:
    """What a gateway takes that is given none: those in force here, or else the environment's."""
    return _in_force.get() or Settings()


@contextlib.contextmanager
def settings_in_force(settings: Settings) -> Iterator[None]:
    """For `torana serve MODULE:GATEWAY`: gateways made inside take what the command was told."""
    token = _in_force.set(settings)
    try:
        yield
    finally:
        _in_force.reset(token)
