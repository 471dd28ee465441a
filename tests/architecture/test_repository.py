"""What may not be in a tracked file, and what must be in the locked requirements."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from architecture.sources import CLIENT, ROOT, tracked_files

# Written so that this file does not match itself.
REGISTRIES = ("pypi[.]org", "pythonhosted[.]org", "registry[.]npmjs[.]org", "proxy[.]golang[.]org", "repo1?[.]maven")
REGISTRY_OPTIONS = ("--(extra-)?index[-]url", "--find[-]links", r"^\s*(extra-)?index[-]url\s*=")
MACHINE_PATHS = ("/(home|Users)/[a-z0-9_.-]+/", "/(root|work)/[a-z.]+")

LOCAL = {"torana", "torana-server"}


def lines() -> Iterator[tuple[str, int, str]]:
    for path in tracked_files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # a picture or another binary file has no lines to read
        for number, line in enumerate(text.splitlines(), start=1):
            yield path.relative_to(ROOT).as_posix(), number, line


@pytest.mark.parametrize(
    "patterns",
    [
        pytest.param((*REGISTRIES, *REGISTRY_OPTIONS), id="package-registry"),
        pytest.param(MACHINE_PATHS, id="machine-path"),
    ],
)
def test_no_tracked_file_names_one_machine_or_registry(patterns) -> None:
    pattern = re.compile("|".join(f"(?:{one})" for one in patterns))
    here = "tests/architecture/test_repository.py"
    found = [f"{name}:{n}: {line.strip()[:100]}" for name, n, line in lines() if name != here and pattern.search(line)]
    assert not found, "\n".join(found)


def locked(name: str) -> dict[str, set[Version]]:
    """Package -> pinned versions; several where the pin depends on the Python version."""
    pins: dict[str, set[Version]] = {}
    for line in (ROOT / "requirements" / name).read_text("utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line):
            pins.setdefault(canonicalize_name(match[1]), set()).add(Version(match[2]))
    return pins


def declared() -> Iterator[Requirement]:
    server = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    client = tomllib.loads((CLIENT / "pyproject.toml").read_text("utf-8"))
    yield from map(Requirement, server["project"]["dependencies"] + client["project"]["dependencies"])
    for extra in server["project"]["optional-dependencies"].values():
        yield from map(Requirement, extra)
    for group in server["dependency-groups"].values():
        yield from (Requirement(line) for line in group if isinstance(line, str))


def test_the_development_lock_pins_everything_that_is_declared() -> None:
    pins = locked("dev.lock")
    unpinned = [
        str(one)
        for one in declared()
        if one.name not in LOCAL
        and not any(one.specifier.contains(version) for version in pins.get(canonicalize_name(one.name), ()))
    ]
    assert not unpinned, f"run `make lock` and commit requirements/: {', '.join(unpinned)}"


@pytest.mark.parametrize("name", ["server.lock", "build.lock"])
def test_what_ships_is_pinned_as_it_was_tested(name: str) -> None:
    pins, tested = locked(name), locked("dev.lock")
    assert pins
    assert {package: versions for package, versions in pins.items() if versions != tested.get(package)} == {}


@pytest.mark.parametrize("name", ["dev.lock", "server.lock", "build.lock"])
def test_every_pin_has_hashes_and_no_local_package_is_pinned(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text("utf-8")
    entries = [entry for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if entry.strip()]
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert not LOCAL & locked(name).keys()
