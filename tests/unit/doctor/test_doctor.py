"""Each thing that can be wrong around a server is found, and told with what to do about it."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from torana_server import Gateway, Settings
from torana_server.adapters.sqlite.schema import VERSION
from torana_server.core.limits import MIB
from torana_server.doctor import Finding, Grade, Surroundings, clock, examine, folder, machine
from torana_server.settings import LoadedSettings, load_settings
from torana_server.vault import LocalKey
from torana_server.workflow import from_yaml

NOBODY = 65_534
FLOW = "name: flow\nsteps: [{name: only, type: code, config: {source: return 1}}]"


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data folder that a server has used, with an execution and a secret, and left in order."""
    path = tmp_path / "data"
    async with Gateway(data_dir=path) as gateway:
        gateway.register_workflow("flow", from_yaml(FLOW))
        await gateway.execute_workflow("flow")
        await gateway.secret_manager.store_secret("warehouse", {"password": "hunter2"})
    return path


def nobody(address: str) -> str | None:
    return None


def findings(around: Surroundings | None = None, **settings: object) -> dict[str, Finding]:
    """By check; of several with one name the gravest."""
    given = {"address": "127.0.0.1:0", **settings}
    found: dict[str, Finding] = {}
    for one in examine(lambda: load_settings(given), around or Surroundings(nobody)):
        known = found.get(one.check)
        if known is None or list(Grade).index(one.grade) >= list(Grade).index(known.grade):
            found[one.check] = one
    return found


def gravest(found: dict[str, Finding]) -> set[str]:
    return {f"{one.check}: {one.grade}" for one in found.values() if one.grade is not Grade.OK}


def test_nothing_is_wrong_before_the_first_start(tmp_path) -> None:
    found = findings(data_dir=tmp_path / "none")
    assert gravest(found) <= {"open files: warning"}
    assert not (tmp_path / "none").exists()


def test_nothing_is_wrong_with_what_a_server_left_and_nothing_is_changed(data) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in data.iterdir()}

    before = state()
    found = findings(data_dir=data)
    assert state() == before
    assert gravest(found) <= {"open files: warning"}
    assert found["journal"].found == f"1 execution, whole, tables of version {VERSION}"
    assert found["vault"].found == "the key fits; 1 secret"
    assert "apart from copies of the data folder" in found["vault key"].advice
    assert "hunter2" not in str(found)


def test_settings_that_cannot_be_used_are_all_told(monkeypatch) -> None:
    monkeypatch.setenv("TORANA_ADRESS", "x")

    def load() -> LoadedSettings:
        return load_settings({"running_max": 0})

    told = [one for one in examine(load, Surroundings(nobody)) if one.check == "settings"]
    assert [one.grade for one in told] == [Grade.PROBLEM, Grade.PROBLEM]
    assert "TORANA_ADDRESS" in told[0].found
    assert "--running-max" in told[1].found


# the folder


async def test_a_running_server_is_told_with_its_process(data) -> None:
    async with Gateway(data_dir=data):
        found = await asyncio.to_thread(findings, data_dir=data)
    assert found["in use"].found == f"a server has the folder: process {os.getpid()}"
    assert gravest(found) <= {"open files: warning"}


def test_a_data_folder_that_is_a_file_is_a_problem(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    assert findings(data_dir=tmp_path / "file")["data folder"].grade is Grade.PROBLEM


def test_a_folder_that_others_can_look_into_is_a_warning(data) -> None:
    data.chmod(0o755)
    found = findings(data_dir=data)["data folder"]
    assert (found.grade, found.advice) == (Grade.WARNING, f"chmod 700 {data}")


def test_a_file_that_others_can_read_is_a_warning(data) -> None:
    (data / "journal.db").chmod(0o644)
    assert "others may read journal.db" in findings(data_dir=data)["data folder"].found


def test_a_folder_of_another_user_is_a_warning(data, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: data.stat().st_uid + 1)
    assert "belongs to user" in findings(data_dir=data)["data folder"].found


@pytest.fixture
def stranger(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user who may not look into the data folder. Root may, and becomes another one for a while."""
    monkeypatch.chdir("/")
    data.chmod(0)
    am_root = os.geteuid() == 0
    if am_root:
        os.seteuid(NOBODY)
    yield
    if am_root:
        os.seteuid(0)
    data.chmod(0o700)


def test_a_folder_that_cannot_be_looked_into_is_a_problem_and_hides_no_other(data, stranger) -> None:
    found = findings(data_dir=data)
    assert found["data folder"].grade is Grade.PROBLEM
    assert "cannot be looked into by this user" in found["data folder"].found
    assert "chown" in found["data folder"].advice
    assert {"address", "clock"} <= found.keys()
    assert not {"in use", "journal", "vault key"} & found.keys(), "nothing is said about what was not seen"


def test_files_that_cannot_be_read_are_not_taken_for_damaged(data, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)
    found = findings(data_dir=data)
    for check, name in (("journal", "journal.db"), ("vault", "vault.db")):
        assert found[check].grade is Grade.PROBLEM
        assert f"{name} cannot be read by this user" in found[check].found
        assert "chown" in found[check].advice


def test_a_folder_that_cannot_be_written_to_is_a_problem(data, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert findings(data_dir=data)["data folder"].grade is Grade.PROBLEM


@pytest.mark.parametrize(
    ("free", "grade"), [(10 * MIB, Grade.PROBLEM), (100 * MIB, Grade.WARNING), (200 * MIB, Grade.OK)]
)
def test_a_disk_near_its_reserve_is_told(free: int, grade: Grade) -> None:
    assert folder.room(free, 64 * MIB).grade is grade


@pytest.mark.parametrize(
    ("kind", "grade"),
    [("nfs4", Grade.PROBLEM), ("fuse.sshfs", Grade.PROBLEM), ("tmpfs", Grade.WARNING), ("ext4", Grade.OK)],
)
def test_a_file_system_that_does_not_keep_a_journal_is_told(tmp_path, kind: str, grade: Grade) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext3 rw 0 0\nserver:/ {tmp_path.resolve()} {kind} rw 0 0\n")
    assert folder.file_system(tmp_path / "inner", mounts).grade is grade


def test_a_slow_disk_is_a_warning() -> None:
    assert folder.fsync_speed(50.0).grade is Grade.WARNING
    assert folder.fsync_speed(1.0).grade is Grade.OK


# the journal


def test_a_damaged_journal_is_a_problem(data) -> None:
    path = data / "journal.db"
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(content)
    assert findings(data_dir=data)["journal"].grade is Grade.PROBLEM


def test_a_file_that_is_no_journal_is_a_problem(data) -> None:
    (data / "journal.db").write_text("not a database, but long enough to look like a header of one" * 100)
    found = findings(data_dir=data)["journal"]
    assert found.grade is Grade.PROBLEM
    assert "cannot be read as a journal" in found.found


def set_pragma(path: Path, pragma: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA {pragma}")
    connection.close()


@pytest.mark.parametrize(
    ("pragma", "said"),
    [("user_version = 99", "its tables have version 99"), ("application_id = 7", "of another program")],
)
def test_a_journal_of_a_newer_release_or_another_program_is_a_problem(data, pragma: str, said: str) -> None:
    set_pragma(data / "journal.db", pragma)
    found = findings(data_dir=data)["journal"]
    assert found.grade is Grade.PROBLEM
    assert said in found.found


async def test_unfinished_executions_are_counted(tmp_path) -> None:
    data = tmp_path / "data"
    gateway = Gateway(settings=Settings(data_dir=data, drain_grace_s=0))
    source = "await progress(0.5, 'half')\nawait asyncio.Event().wait()"
    waiting = {"name": "only", "type": "code", "config": {"source": source}}
    gateway.register_workflow("flow", from_yaml(str({"name": "flow", "steps": [waiting]})))
    async for event in gateway.execute_stream("flow"):
        if "progress" in event.kind:
            break
    await gateway.close()
    found = await asyncio.to_thread(findings, data_dir=data)
    assert found["unfinished"].found == "1 execution would go on when a server starts"


def test_events_ahead_of_the_clock_are_a_warning(data) -> None:
    early = Surroundings(nobody, lambda: datetime.now(UTC) - timedelta(hours=1))
    found = findings(early, data_dir=data)
    assert found["newest event"].grade is Grade.WARNING
    assert "ahead of this machine's clock" in found["newest event"].found
    assert "journal.db" in found["clock"].found


# the vault


def keys(*ids: str) -> str:
    return ",".join(f"{key_id}:{base64.b64encode(os.urandom(32)).decode()}" for key_id in ids)


def test_a_key_file_that_is_gone_is_a_problem(data) -> None:
    (data / "vault.key").unlink()
    found = findings(data_dir=data)["vault key"]
    assert found.grade is Grade.PROBLEM
    assert "vault.key is gone" in found.found


def test_another_key_is_a_problem(data) -> None:
    found = findings(data_dir=data, vault_keys=keys("other"))
    assert found["vault"].grade is Grade.PROBLEM
    assert "the vault needs key 'generated-" in found["vault"].found


def test_another_key_under_the_same_id_is_a_problem(data) -> None:
    known = (data / "vault.key").read_text().splitlines()[-1].partition(":")[0]
    given = keys(known)
    found = findings(data_dir=data, vault_keys=given)
    assert "is not the key that this vault was written with" in found["vault"].found
    assert given.partition(":")[2] not in str(found)


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [("no key", 0o600, "entry 1"), (keys("own"), 0o644, "mode 0644"), ("", 0o600, "empty")],
    ids=["no key", "others may read it", "empty"],
)
def test_a_key_file_that_cannot_be_used_is_a_problem(tmp_path, text: str, mode: int, said: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(mode)
    found = findings(data_dir=tmp_path / "data", vault_keys_file=path)["vault key"]
    assert found.grade is Grade.PROBLEM
    assert said in found.found


def test_a_generated_key_in_production_is_a_problem(data) -> None:
    assert findings(data_dir=data, production=True)["vault key"].grade is Grade.PROBLEM


# the address and its certificate


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_an_address_of_another_program_is_a_problem(taken) -> None:
    found = findings(address=taken)["address"]
    assert (found.grade, found.found) == (Grade.PROBLEM, f"another program listens on {taken}")


def test_an_address_of_another_torana_is_a_warning(taken) -> None:
    found = findings(Surroundings(lambda address: f"Torana at {address}"), address=taken)["address"]
    assert found.grade is Grade.WARNING
    assert "with another data folder" in found.found


async def test_the_address_of_the_server_that_has_the_folder_is_in_order(data, taken) -> None:
    async with Gateway(data_dir=data):
        around = Surroundings(lambda _: "Torana")
        found = await asyncio.to_thread(findings, around, address=taken, data_dir=data)
    assert found["address"].grade is Grade.OK


@pytest.mark.parametrize("address", ["192.0.2.1:7233", "no-such-host.invalid:7233", "unix:/no/folder/torana.sock"])
def test_an_address_that_cannot_be_listened_on_is_a_problem(address: str) -> None:
    assert findings(address=address, allow_insecure=True)["address"].grade is Grade.PROBLEM


def test_plain_text_beyond_this_machine_is_a_problem() -> None:
    assert "can be reached from other machines" in findings(address="0.0.0.0:0")["listening"].found


def certificate(folder: Path, name: str, days: int) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    key_path.chmod(0o600)
    return cert_path, key_path


@pytest.mark.parametrize(("days", "grade"), [(-2, Grade.PROBLEM), (5, Grade.WARNING), (90, Grade.OK)])
def test_a_certificate_is_told_before_it_expires(tmp_path, days: int, grade: Grade) -> None:
    cert, key = certificate(tmp_path, "server", days)
    assert findings(tls_cert=cert, tls_key=key)["certificate"].grade is grade


def test_a_certificate_and_the_key_of_another_are_a_problem(tmp_path) -> None:
    cert, _ = certificate(tmp_path, "one", 90)
    _, key = certificate(tmp_path, "two", 90)
    assert findings(tls_cert=cert, tls_key=key)["listening"].grade is Grade.PROBLEM


def test_a_certificate_that_is_not_there_is_a_problem(tmp_path) -> None:
    found = findings(tls_cert=tmp_path / "none.pem", tls_key=tmp_path / "none.key")["listening"]
    assert "none.pem cannot be read" in found.found


def test_a_key_that_others_can_read_is_a_warning(tmp_path) -> None:
    cert, key = certificate(tmp_path, "server", 90)
    key.chmod(0o644)
    assert findings(tls_cert=cert, tls_key=key)["certificate"].advice == f"chmod 600 {key}"


# the machine


def test_a_sqlite_library_that_can_corrupt_a_journal_is_a_problem() -> None:
    assert machine.sqlite_library("3.51.2").grade is Grade.PROBLEM
    assert machine.sqlite_library("3.51.3").grade is Grade.OK


def test_few_open_files_are_a_warning() -> None:
    assert machine.open_files(256).grade is Grade.WARNING
    assert machine.open_files(65_536).grade is Grade.OK


def test_variables_of_templates_that_are_not_set_are_a_warning(monkeypatch) -> None:
    monkeypatch.setenv("REGION", "north")
    found = findings(template_env=("REGION", "STAGE"))["template_env"]
    assert found.grade is Grade.WARNING
    assert "names STAGE, which" in found.found


def test_a_clock_that_is_set_while_it_is_watched_is_told() -> None:
    times = iter([100.0, 103.2])
    steady = iter([50.0, 50.2])
    assert clock.step_of(lambda: next(times), lambda: next(steady), lambda _: None) == pytest.approx(3.0)


def test_a_clock_before_the_release_is_a_warning(tmp_path) -> None:
    found = findings(Surroundings(nobody, lambda: datetime(1970, 1, 1, tzinfo=UTC)), data_dir=tmp_path / "none")
    assert found["clock"].grade is Grade.WARNING


def test_a_server_in_memory_has_no_folder_to_look_at(tmp_path) -> None:
    found = findings(journal="memory", data_dir=tmp_path / "none")
    assert not {"data folder", "journal", "vault"} & found.keys()


def test_no_key_is_ever_shown(data) -> None:
    key = LocalKey.random("generated-")
    assert key.key_id.startswith("generated-")
    text = (data / "vault.key").read_text().splitlines()[-1].partition(":")[2]
    assert text not in str(findings(data_dir=data))
