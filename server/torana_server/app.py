"""The composition root: settings → adapters → product → faces. The only file that sees everything."""

from __future__ import annotations

import asyncio
import gc
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torana_server.adapters.memory.journal import MemoryJournal
from torana_server.adapters.memory.secrets import MemorySecretStore
from torana_server.adapters.postgres.connection import Place
from torana_server.adapters.postgres.journal import PostgresJournal
from torana_server.adapters.postgres.secrets import PostgresSecretStore
from torana_server.adapters.sqlite.folder import make_private_folder
from torana_server.adapters.sqlite.journal import SqliteJournal
from torana_server.adapters.sqlite.secrets import SqliteSecretStore
from torana_server.adapters.wire import WireCodec
from torana_server.core import logs
from torana_server.core.clock import Clock, SystemClock
from torana_server.core.errors import InvalidRequestError, UnavailableError, VaultError, Violation
from torana_server.core.ids import new_id
from torana_server.execution import AdmissionLimits, Engine, Journal, ResourceBinder, Services
from torana_server.resources import (
    ResourceRegistry,
    ResourceResolver,
    Resources,
    ResourceSettings,
    ResourceTypes,
)
from torana_server.rpc import Faces, GrpcServer, RpcSettings
from torana_server.settings import Settings
from torana_server.steps import (
    FunctionRegistry,
    InProcessRunner,
    LoopWatchdog,
    StepThreads,
    StepTypes,
    built_in_types,
)
from torana_server.system import System
from torana_server.vault import (
    Keyring,
    LocalKey,
    SecretManager,
    SecretStore,
    generated_key_file,
    harden_process,
    keyring_from_file,
    keyring_from_text,
    require_operator_key,
)
from torana_server.workflow import StepSchema, WorkflowRegistry, definition_schema

logger = logs.logger("gateway")

STOP_GRACE_S = 1.0
"""For calls that are still open when every stream has been told to end."""
GC_THRESHOLD = 20_000
"""New objects between two looks at the youngest generation; CPython's default is 700."""


ResolverChoice = ResourceResolver | type[ResourceResolver]
"""A resolver, or its class."""


@dataclass(slots=True)
class Parts:
    """What the operator brings: all of it optional, all of it open for registration before the start."""

    functions: FunctionRegistry = field(default_factory=FunctionRegistry)
    resource_registry: ResourceRegistry = field(default_factory=ResourceRegistry)
    resource_types: ResourceTypes = field(default_factory=ResourceTypes.standard)
    secrets: SecretManager | None = None
    resource_resolver: ResolverChoice | None = None


class Application:
    """One server, wired. `open` starts it without a face; `serve` opens the gRPC face; `close` drains and stops."""

    def __init__(self, settings: Settings, parts: Parts, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self._server_id = new_id()
        self.clock = clock or SystemClock()
        self.secrets = parts.secrets or SecretManager(cache_ttl=settings.secret_cache_ttl_s)
        logs.redact_with(self.secrets.redactor)
        self.functions = parts.functions
        self._threads = StepThreads(settings.threads_max)
        self.step_types = StepTypes()
        for step_type in built_in_types(parts.functions, self._threads, cancel_grace_s=settings.cancel_grace_s):
            self.step_types.register(step_type)
        self.step_types.load_entry_points()
        self.workflows = WorkflowRegistry(self.step_types)
        self.resolver = _resolver(parts, self.secrets)
        self.resources = Resources(
            parts.resource_registry,
            parts.resource_types,
            self.secrets,
            resolver=self.resolver,
            clock=self.clock,
            settings=_resource_settings(settings),
            redact=self.secrets.redactor.redact,
        )
        self.watchdog = LoopWatchdog(threshold_s=settings.lag_warning_ms / 1000)
        self.runner = InProcessRunner(self.step_types, self.resources, cancel_grace_s=settings.cancel_grace_s)
        self.journal = self._journal()
        self.codec = WireCodec()
        self.engine = self._engine()
        self.system = System(
            settings,
            self._server_id,
            self.clock,
            engine=self.engine,
            journal=self.journal,
            resources=self.resources,
            watchdog=self.watchdog,
        )
        self.server: GrpcServer | None = None
        self.fatal = asyncio.Event()
        """Set when the journal failed: the process must stop, so that recovery starts clean."""
        self._failure: Exception | None = None
        self.secrets.attach(self._vault)  # last: a gateway that could not be made leaves the manager to the next

    def _journal(self) -> Journal:
        return _journal(self.settings)

    def _binder(self) -> ResourceBinder:
        """Decides what the names of a request stand for."""
        return self.resources

    def _engine(self) -> Engine:
        settings = self.settings
        services = Services(
            journal=self.journal,
            codec=self.codec,
            clock=self.clock,
            runner=self.runner,
            redact=self.secrets.redactor.redact,
            draw=random.random,
            server_id=self._server_id,
            env=settings.template_environment(),
            cancel_grace_s=settings.cancel_grace_s,
            queue_timeout_s=settings.queue_timeout_s,
            debugs=self._debugs,
        )
        limits = AdmissionLimits(
            running=settings.running_max,
            running_per_tenant=settings.running_per_tenant_max,
            running_per_workflow=settings.running_per_workflow_max,
            queued=settings.queued_max,
        )
        return Engine(
            services,
            self.workflows,
            self._binder(),
            offers=self.step_types.capabilities,
            limits=limits,
            on_fatal=self._failed,
        )

    def _debugs(self, workflow: str) -> bool:
        return workflow in self.settings.debug_workflows or self.workflows.debugs(workflow)

    def workflow_schema(self) -> dict[str, Any]:
        types = [self.step_types.find(name) for name in self.step_types.names()]
        return definition_schema(StepSchema(one.name, one.description, one.config_schema()) for one in types)

    async def open(self) -> None:
        """Raises VaultError, StateError (JOURNAL_IN_USE) or UnavailableError; nothing stays open then."""
        harden_process()
        try:
            await self._open_parts()
        except BaseException:
            await self.close()
            raise

    async def _open_parts(self) -> None:
        if not self.journal.durable:
            logger.warning("executions and secrets are kept in memory: nothing survives this process")
        if self.settings.on_postgresql:
            self._shared_keyring()
        await self.engine.open()
        await self.secrets.open_attached()
        await self.resources.start()
        self.watchdog.start()
        self.engine.go_on()
        logger.debug("opened journal and vault", extra={"journal": self.journal.kind, "server": self._server_id})

    async def _vault(self) -> tuple[SecretStore, Keyring]:
        """Opened at the start, or by the first use of a secret before it."""
        harden_process()
        if self.settings.journal == "memory":
            return MemorySecretStore(), Keyring([LocalKey.random("memory-")])
        if self.settings.on_postgresql:
            place = Place(self.settings.journal, self.settings.journal_schema, _journal_password(self.settings))
            return await PostgresSecretStore.open(place, self.settings.journal_wait_s), self._shared_keyring()
        make_private_folder(self.settings.data_dir)
        keyring = _keyring(self.settings)
        if self.settings.production:
            require_operator_key(keyring)
        return await SqliteSecretStore.open(self.settings.data_dir / "vault.db"), keyring

    def _shared_keyring(self) -> Keyring:
        """That of a vault which other servers open, too. Raises VaultError when none was given: a key made here would
        be on this machine alone."""
        keyring = self.secrets.keyring or _given_keyring(self.settings)
        if keyring is None:
            raise VaultError(
                "a vault in PostgreSQL needs a keyring that every server has: make a key once with "
                '`echo "2026-01:$(head -c 32 /dev/urandom | base64)"`, and give it to each of them as '
                "TORANA_VAULT_KEYS or in the file that vault_keys_file names"
            )
        if self.settings.production:
            require_operator_key(keyring)
        return keyring

    def face(self, address: str | None = None) -> GrpcServer:
        """The gRPC face, which does not listen yet. Raises InvalidRequestError for an address that may not be used."""
        faces = Faces(
            engine=self.engine,
            workflows=self.workflows,
            step_types=self.step_types,
            resources=self.resources,
            resource_types=self.resources.types,
            secrets=self.secrets,
            system=self.system,
            clock=self.clock,
        )
        return GrpcServer(faces, _rpc_settings(self.settings, address or self.settings.address))

    async def serve(self, face: GrpcServer) -> int:
        """Opens the gRPC face; the port it listens on."""
        self.server = face
        await face.start()
        _settle_garbage_collection()
        return face.port

    async def close(self, grace_s: float | None = None) -> None:
        """Drains, then stops everything. Idempotent."""
        grace_s = self.settings.drain_grace_s if grace_s is None else grace_s
        if self.server is not None:
            self.server.refuse()
        await self.engine.drain(0 if self.fatal.is_set() else grace_s)
        if self.server is not None:
            await self.server.drain()
            await self.server.stop(STOP_GRACE_S)
            self.server = None
        await self.runner.close()
        await self.resources.close()
        self.watchdog.stop()
        await self.engine.close()
        await self.secrets.close()

    def check_fatal(self) -> None:
        """Raises UnavailableError when the journal failed."""
        if self._failure is not None:
            raise UnavailableError(
                f"the journal failed ({self._failure}); the server stopped so that the next start recovers cleanly"
            ) from self._failure

    def _failed(self, error: Exception) -> None:
        self._failure = error
        self.fatal.set()


def _settle_garbage_collection() -> None:
    """What is loaded by now lives as long as the process; looking at it again and again took 7 % of a busy server."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def _resolver(parts: Parts, secrets: SecretManager) -> ResourceResolver:
    chosen = parts.resource_resolver or ResourceResolver
    if isinstance(chosen, type) and issubclass(chosen, ResourceResolver):
        resolver = chosen(parts.resource_registry, secrets)
    elif isinstance(chosen, ResourceResolver):
        resolver = chosen
    else:
        kind = chosen.__name__ if isinstance(chosen, type) else type(chosen).__name__
        raise InvalidRequestError(
            f"resource_resolver is a subclass of ResourceResolver or an instance of one, not {kind}"
        )
    resolver.resource_registry = parts.resource_registry
    resolver.secret_manager = secrets
    return resolver


def _journal(settings: Settings) -> Journal:
    if settings.port_shared and not settings.on_postgresql:
        raise InvalidRequestError(
            "servers that share a port need a journal that they share, too",
            violations=[Violation("journal", "several workers need postgresql://USER@HOST/DATABASE")],
        )
    if settings.journal == "memory":
        return MemoryJournal()
    if settings.on_postgresql:
        return PostgresJournal(
            settings.journal,
            schema=settings.journal_schema,
            password=_journal_password(settings),
            lease_s=settings.lease_s,
            readers=settings.journal_readers_max,
            wait_s=settings.journal_wait_s,
        )
    return SqliteJournal(settings.data_dir, reserve_bytes=settings.disk_reserve_bytes)


def _journal_password(settings: Settings) -> str | None:
    return settings.journal_password.get_secret_value() if settings.journal_password else None


def _given_keyring(settings: Settings) -> Keyring | None:
    if settings.vault_keys is not None:
        return keyring_from_text(settings.vault_keys.get_secret_value())
    if settings.vault_keys_file is not None:
        return keyring_from_file(settings.vault_keys_file)
    return None


def _keyring(settings: Settings) -> Keyring:
    """From the settings; failing that, from a key file beside the data, made on the first start."""
    given = _given_keyring(settings)
    if given is not None:
        return given
    path: Path = settings.data_dir / "vault.key"
    key_file = generated_key_file(path)
    if key_file.created:
        logger.warning("made a vault key in %s; without it the secrets beside it cannot be recovered: back it up", path)
    return key_file.keyring


def _resource_settings(settings: Settings) -> ResourceSettings:
    return ResourceSettings(
        idle_timeout_s=settings.pool_idle_timeout_s,
        open_timeout_s=settings.pool_open_timeout_s,
        health_check_interval_s=settings.health_check_interval_s,
    )


def _rpc_settings(settings: Settings, address: str) -> RpcSettings:
    return RpcSettings(
        address=address,
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
        tls_client_ca=settings.tls_client_ca,
        allow_insecure=settings.allow_insecure,
        port_shared=settings.port_shared,
        reflection=settings.reflection,
        access_log=settings.access_log,
        message_bytes_max=settings.message_bytes_max,
        streams_max=settings.streams_max,
        stream_age_s_max=settings.stream_age_s_max,
        heartbeat_interval_s=settings.heartbeat_interval_s,
    )
