"""Where a keyring comes from: the environment, a file, or a file generated at first start.

One format for all of them. An entry is `<id>:<base64 of 32 bytes>`; entries are separated by commas or new
lines; the first is primary. In a file, blank lines and lines that start with `#` are skipped. Standard and
URL-safe base64 are both read. A key can be made with

    echo "2026-08:$(head -c 32 /dev/urandom | base64)"

so `TORANA_VAULT_KEYS=2026-08:q1…=,2026-02:9f…=` wraps with `2026-08` and still unwraps with `2026-02`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torana_server.core.errors import VaultError
from torana_server.vault.keyring import GENERATED_PREFIX, Keyring, LocalKey

KEYS_VARIABLE = "TORANA_VAULT_KEYS"
_FILE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class KeyFile:
    """`created` is true on the one start that made the file: the moment to tell the operator to back it up."""

    keyring: Keyring
    created: bool


def keyring_from_text(text: str) -> Keyring:
    """The keyring that `TORANA_VAULT_KEYS` holds. Raises VaultError if it is malformed or empty."""
    return _parse(text, KEYS_VARIABLE)


def keyring_from_file(path: Path) -> Keyring:
    """Raises VaultError when the file is missing, malformed, or readable by its group or by others."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise VaultError(f"the vault's key file {path.name!r} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        _check_mode(os.fstat(file.fileno()), path)
        content = file.read(_FILE_BYTES_MAX + 1)
    if len(content) > _FILE_BYTES_MAX:
        raise VaultError(f"the vault's key file {path.name!r} is larger than {_FILE_BYTES_MAX} bytes")
    try:
        return _parse(content.decode("ascii"), f"key file {path.name!r}")
    except UnicodeDecodeError:
        raise VaultError(f"the vault's key file {path.name!r} is not text of the form id:base64") from None


def generated_key_file(path: Path) -> KeyFile:
    """The keyring in `path`, made with one new key if the file does not exist.

    The file appears whole or not at all, with mode 0600, and is on disk before this returns. Of several
    processes that start at once, one makes it and the others read it.
    """
    if not path.exists() and _create(path):
        return KeyFile(keyring_from_file(path), created=True)
    return KeyFile(keyring_from_file(path), created=False)


def _create(path: Path) -> bool:
    key = LocalKey.random(GENERATED_PREFIX)
    text = (
        "# The key of Torana's vault. Without this file the secrets beside it cannot be recovered: back it up,\n"
        "# apart from them.\n"
        f"{key.key_id}:{base64.b64encode(key.reveal()).decode()}\n"
    )
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        _write_durably(draft, text.encode())
        try:
            os.link(draft, path)  # unlike a rename, refuses to replace the file of a process that was faster
        except FileExistsError:
            return False
    except OSError as error:
        raise VaultError(f"the vault's key file {path.name!r} cannot be created: {error.strerror}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
    _sync_directory(path.parent)
    return True


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    if os.name == "nt":  # directories cannot be opened there, and their entries need no sync
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_mode(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise VaultError(f"the vault's key file {path.name!r} is not a regular file")
    if os.name != "nt" and status.st_mode & 0o077:
        raise VaultError(
            f"the vault's key file {path.name!r} has mode {stat.S_IMODE(status.st_mode):04o}, so others may "
            f"read it; run: chmod 600 {path.name}"
        )


def _parse(text: str, source: str) -> Keyring:
    return Keyring([_key(entry, place) for entry, place in _entries(text, source)])


def _entries(text: str, source: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    entries = [entry.strip() for line in lines for entry in line.split(",") if entry.strip()]
    for number, entry in enumerate(entries, 1):
        yield entry, f"entry {number} of {source}"


def _key(entry: str, place: str) -> LocalKey:
    """Messages name the entry by its number: text without a colon may be the key itself."""
    key_id, colon, encoded = entry.partition(":")
    if not colon:
        raise VaultError(f"{place} has no id; write <id>:<base64 of 32 bytes>")
    try:
        key = base64.b64decode(encoded.strip().translate(_URL_SAFE), validate=True)
    except (binascii.Error, ValueError):
        raise VaultError(f"{place} is not base64 after the colon") from None
    try:
        return LocalKey(key_id.strip(), key)
    except VaultError as error:
        raise VaultError(f"{place}: {error.message}") from None


_URL_SAFE = str.maketrans("-_", "+/")
