"""A password in the journal's address is kept apart from it, and shown by nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from torana_server.core.errors import InvalidRequestError
from torana_server.settings import Settings, load_settings
from torana_server.settings.journal_address import password_apart

PASSWORD = "s3cr/t p@ss:"
QUOTED = "s3cr%2Ft%20p%40ss%3A"
ADDRESS = "postgresql://torana@db.example.com:5432/torana"
WITH_PASSWORD = f"postgresql://torana:{QUOTED}@db.example.com:5432/torana"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(**arguments: object) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        Settings(**arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "bare", "password"),
    [
        (ADDRESS, ADDRESS, None),
        (WITH_PASSWORD, ADDRESS, PASSWORD),
        ("postgres://u:p@h/d?sslmode=require", "postgres://u@h/d?sslmode=require", "p"),
        ("postgresql://h/d?user=u&password=p%20q", "postgresql://h/d?user=u", "p q"),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql", None),
        ("postgresql://u:p@h1:1,h2:2/d", "postgresql://u@h1:1,h2:2/d", "p"),
        ("postgresql://u:p@[::1]:5432/d", "postgresql://u@[::1]:5432/d", "p"),
        ("postgresql://u:@h/d", "postgresql://u@h/d", ""),
    ],
)
def test_a_password_is_taken_out_of_an_address(given: str, bare: str, password: str | None) -> None:
    assert password_apart(given) == (bare, password)
    assert Settings(journal=given).journal == bare


def test_the_settings_hold_the_address_without_it_and_the_password_as_a_secret() -> None:
    settings = Settings(journal=WITH_PASSWORD)
    assert settings.journal == ADDRESS
    assert settings.on_postgresql
    assert settings.journal_password is not None
    assert settings.journal_password.get_secret_value() == PASSWORD
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert PASSWORD not in shown
        assert QUOTED not in shown


def test_the_password_comes_from_where_the_address_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORANA_JOURNAL", WITH_PASSWORD)
    loaded = load_settings()
    assert loaded.origin("journal_password").name == loaded.origin("journal").name == "TORANA_JOURNAL"


def test_two_passwords_are_one_too_many() -> None:
    said = problems(journal=WITH_PASSWORD, journal_password="other")
    assert "Settings(journal=…): holds a password, and journal_password is set; give one of them" in said
    assert QUOTED not in said


def test_others_may_not_read_a_file_with_an_address_that_holds_a_password(folder: Path) -> None:
    file = folder / "torana.toml"
    file.write_text(f'journal = "{WITH_PASSWORD}"\n')
    file.chmod(0o644)
    with pytest.raises(InvalidRequestError, match="chmod 600") as caught:
        load_settings()
    assert QUOTED not in str(caught.value)
    file.chmod(0o600)
    assert load_settings().settings.journal == ADDRESS
    file.write_text(f'journal = "{ADDRESS}"\n')
    file.chmod(0o644)
    assert load_settings().settings.journal == ADDRESS


@pytest.mark.parametrize(
    ("journal", "said"),
    [
        ("mysql://u:hidden@h/d", "write sqlite, memory or an address such as postgresql://"),
        ("postgres", "write sqlite, memory or an address such as postgresql://"),
        ("postgresql://u:hidden@h", "names no database"),
        ("postgresql://u:hidden@[h/d", "is no valid address"),
        ("postgresql://u:hidden@h/d?sslpassword=hidden", "holds an sslpassword"),
        ("postgresql://u:hid#den@h/d", "has a password whose / ? # [ ] are not written as"),
        ("postgresql://u:hid/den@h/d", "has a password whose / ? # [ ] are not written as"),
        ("postgresql://u:hid?den@h/d", "has a password whose / ? # [ ] are not written as"),
        ("postgresql://u:hid/den", "has a password whose / ? # [ ] are not written as"),
    ],
)
def test_what_is_no_journal_is_refused_and_not_repeated(journal: str, said: str) -> None:
    refused = problems(journal=journal)
    assert said in refused
    assert "hid" not in refused


@pytest.mark.parametrize("name", ["", "Torana", 'a"b', "1st", "a" * 64, "a-b"])
def test_a_schema_has_a_name_that_needs_no_quotes(name: str) -> None:
    assert "journal_schema" in problems(journal_schema=name)
