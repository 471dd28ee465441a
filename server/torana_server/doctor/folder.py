"""The data folder: whose it is, who may read it, who has it, and the disk it lies on."""

from __future__ import annotations

import contextlib
import os
import stat
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from torana_server.adapters.sqlite.folder import free_bytes
from torana_server.adapters.sqlite.inspection import holder_of
from torana_server.core.limits import KIB, MIB
from torana_server.doctor.findings import Finding, ok, problem, warning
from torana_server.settings import Settings

FSYNCS = 20
FSYNC_MS_MAX = 20.0
"""A step waits for one or two of them."""
MOUNTS = Path("/proc/self/mounts")
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "davfs", "ncpfs", "vboxsf"}
    | {f"fuse.{name}" for name in ("sshfs", "glusterfs", "s3fs", "rclone", "ceph-fuse", "davfs2", "gcsfuse")}
)
VOLATILE_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


def user_of(data_dir: Path) -> str | None:
    """The process that has the folder open, in words; None when nobody has."""
    pid = holder_of(data_dir)
    if pid is None:
        return None
    return f"process {pid}" if pid else "another process"


def is_closed(folder: Path) -> bool:
    """Whether it is there, as far as can be told, and this user may not look into it."""
    try:
        os.scandir(folder).close()
        os.stat(folder / ".")
    except PermissionError:
        return True
    except OSError:
        return False  # not there, or no folder, which other checks tell
    return False


def files_in(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """By name. A running server takes some of them away meanwhile."""
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(FileNotFoundError):
            yield path.name, path.stat()


def examine(settings: Settings, user: str | None) -> Iterator[Finding]:
    folder = settings.data_dir
    if is_closed(folder):
        yield problem("data folder", f"{folder} cannot be looked into by this user", OWNER)
        return
    if not folder.exists():
        yield ok("data folder", f"{folder} is not there yet; the first start makes it")
    elif not folder.is_dir():
        yield problem("data folder", f"{folder} is no folder", "give the server another one with data_dir")
        return
    else:
        yield access(folder)
        yield ok("in use", f"a server has the folder: {user}" if user else "no server has the folder")
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield problem("data folder", f"{existing} cannot be written to by this user", OWNER)
        return
    yield file_system(existing, MOUNTS)
    yield room(free_bytes(existing), settings.disk_reserve_bytes)
    yield fsync_speed(fsync_ms(existing))


OWNER = "run as the user the folder belongs to, or give the folder to the user of the server (chown -R)"


def access(folder: Path) -> Finding:
    status = folder.stat()
    mode = status.st_mode & 0o777
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return warning("data folder", f"{folder} belongs to user {status.st_uid}, this is user {os.geteuid()}", OWNER)
    exposed = [name for name, one in files_in(folder) if stat.S_ISREG(one.st_mode) and one.st_mode & 0o077]
    if mode & 0o077:
        return warning("data folder", f"{folder} has mode {mode:04o}: others can look into it", f"chmod 700 {folder}")
    if exposed:
        found = f"others may read {', '.join(exposed)} in {folder}"
        return warning("data folder", found, f"chmod 600 {folder}/*")
    return ok("data folder", f"{folder}, mode {mode:04o}")


def file_system(folder: Path, mounts: Path) -> Finding:
    kind = file_system_of(folder, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        found = f"{folder} is on {kind}; SQLite's locks are not safe on network file systems"
        return problem("file system", found, "put data_dir on a disk of this machine")
    if kind in VOLATILE_FILE_SYSTEMS:
        found = f"{folder} is on {kind}, in memory: nothing there survives a restart of the machine"
        return warning("file system", found, "put data_dir on a disk, unless that is meant")
    return ok("file system", kind or "unknown here")


def file_system_of(folder: Path, mounts: Path) -> str:
    """The kind of the file system that holds the folder; empty where the system does not tell."""
    if not mounts.exists():
        return ""
    lines = [line.split() for line in mounts.read_text("utf-8", errors="replace").splitlines()]
    points = {Path(line[1].replace("\\040", " ")): line[2] for line in lines if len(line) > 2}
    resolved = folder.resolve()
    return next((points[place] for place in (resolved, *resolved.parents) if place in points), "")


def room(free: int, reserve: int) -> Finding:
    found = f"{_size(free)} free; {_size(reserve)} are kept in reserve"
    if free <= reserve:
        return problem(
            "disk space", f"{found}, so nothing new is accepted", "free some space, or lower disk_reserve_bytes"
        )
    if free < 2 * reserve:
        return warning("disk space", found, "free some space: below the reserve nothing new is accepted")
    return ok("disk space", found)


def fsync_ms(folder: Path) -> float:
    """Median milliseconds of one, measured on a file without a name."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FSYNCS):
            file.write(bytes(4 * KIB))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1_000


def fsync_speed(milliseconds: float) -> Finding:
    found = f"an fsync takes {milliseconds:.2g} ms"
    if milliseconds > FSYNC_MS_MAX:
        return warning("disk speed", f"{found}, and every step waits for one", "use a faster disk, such as a local SSD")
    return ok("disk speed", found)


def _size(count: int) -> str:
    return f"{count / MIB:,.0f} MiB" if count < 1_024 * MIB else f"{count / MIB / 1_024:,.1f} GiB"
