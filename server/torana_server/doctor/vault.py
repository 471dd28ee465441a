"""Whether the vault opens with the key that there is. No key is shown, and none is made."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from torana_server.adapters.sqlite.inspection import VaultReport, inspect_vault
from torana_server.core.errors import ToranaError, VaultError
from torana_server.doctor.findings import Finding, counted, ok, problem
from torana_server.doctor.folder import OWNER
from torana_server.settings import Settings
from torana_server.vault import Keyring, check_keyring, keyring_from_file, keyring_from_text, require_operator_key

BACK_UP = "keep a copy of the key apart from copies of the data folder: without it no secret can be recovered"


def examine(settings: Settings, in_use: bool) -> Iterator[Finding]:
    path = settings.data_dir / "vault.db"
    generated = settings.data_dir / "vault.key"
    if path.exists() and not os.access(path, os.R_OK):
        yield problem("vault", f"{path} cannot be read by this user", OWNER)
        return
    try:
        report = inspect_vault(path, in_use=in_use) if path.exists() else None
    except ToranaError as error:
        yield problem("vault", error.message, "restore vault.db from a backup")
        return
    if _is_missing(settings, generated):
        yield no_key(report, generated)
        return
    try:
        keyring = given_keyring(settings) or keyring_from_file(generated)
        if settings.production:
            require_operator_key(keyring)
    except VaultError as error:
        yield problem("vault key", error.message, "see docs/secrets.md for where keys come from")
        return
    yield ok("vault key", _described(settings, keyring, generated), BACK_UP)
    if report is not None:
        yield fits(keyring, report)


def _is_missing(settings: Settings, generated: Path) -> bool:
    return settings.vault_keys is None and settings.vault_keys_file is None and not generated.exists()


def given_keyring(settings: Settings) -> Keyring | None:
    """That of the settings. Raises VaultError for one that cannot be read."""
    if settings.vault_keys is not None:
        return keyring_from_text(settings.vault_keys.get_secret_value())
    return keyring_from_file(settings.vault_keys_file) if settings.vault_keys_file is not None else None


def _described(settings: Settings, keyring: Keyring, generated: Path) -> str:
    source = settings.vault_keys_file or generated
    place = "in vault_keys" if settings.vault_keys is not None else f"in {source}"
    return f"{keyring.primary.key_id} {place}"


def no_key(report: VaultReport | None, generated: Path) -> Finding:
    if report is None or not (report.tenant_keys or report.canaries):
        return ok("vault key", f"none yet; the first start makes {generated}", BACK_UP)
    ids = ", ".join(sorted({*report.tenant_keys, *report.canaries}))
    found = f"the vault was written with the key {ids}, and {generated} is gone"
    return problem("vault key", found, "put the file back from a backup, or give the key by vault_keys_file")


class Kept(Protocol):
    """What a vault holds: how many tenant keys each key wraps, and what each key wrapped at its first use."""

    @property
    def secrets(self) -> int: ...
    @property
    def tenant_keys(self) -> Mapping[str, int]: ...
    @property
    def canaries(self) -> Mapping[str, bytes]: ...


def fits(keyring: Keyring, report: Kept) -> Finding:
    try:
        asyncio.run(check_keyring(keyring, report.tenant_keys, report.canaries))
    except VaultError as error:
        return problem("vault", error.message, "start with the keyring that the vault was written with")
    return ok("vault", f"the key fits; {counted(report.secrets, 'secret')}")
