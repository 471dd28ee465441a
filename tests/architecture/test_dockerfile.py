"""The image cannot be built where there is no container engine, so the commands it runs are held here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from architecture.sources import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def instructions(keyword: str) -> list[str]:
    return re.findall(rf"^{keyword} +(.+)$", DOCKERFILE, flags=re.MULTILINE)


def copy_build_context(into: Path) -> None:
    """What the COPY instructions of the first stage bring in, byte code and other leftovers aside."""
    for line in instructions("COPY"):
        *sources, target = line.split()
        for source in sources if not line.startswith("--from") else []:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, into / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, into / target)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Distribution -> the files in the wheel that the Dockerfile's own command builds."""
    context = tmp_path_factory.mktemp("context")
    copy_build_context(context)
    (line,) = [line for line in instructions("RUN") if "pip wheel" in line]
    pip, *arguments = shlex.split(line)
    assert pip == "/opt/build/bin/pip"
    out = context / "wheels"
    arguments = [str(out) if argument == "/wheels" else argument for argument in arguments]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], cwd=context, check=True)
    return {path.name.split("-")[0]: set(zipfile.ZipFile(path).namelist()) for path in out.glob("*.whl")}


def test_both_distributions_are_built_as_wheels(wheels) -> None:
    assert set(wheels) == {"torana", "torana_server"}


def test_the_client_wheel_has_the_stubs_and_is_typed(wheels) -> None:
    assert {
        "torana/py.typed",
        "torana/v1/execution_service_pb2.py",
        "torana/v1/execution_service_pb2.pyi",
        "torana/v1/execution_service_pb2_grpc.py",
        "torana/v1/execution_service_pb2_grpc.pyi",
    } <= wheels["torana"]
    assert not [name for name in wheels["torana"] if name.startswith("torana_server/")]


def test_the_server_wheel_has_every_module_and_is_typed(wheels) -> None:
    package = ROOT / "server/torana_server"
    modules = {path.relative_to(package.parent).as_posix() for path in package.rglob("*.py")}
    assert modules | {"torana_server/py.typed"} <= wheels["torana_server"]


def test_both_wheels_carry_the_licence(wheels) -> None:
    without = [name for name, files in wheels.items() if not any(file.endswith("/LICENSE") for file in files)]
    assert without == []


def test_the_image_runs_the_command_that_the_server_wheel_installs(wheels) -> None:
    (entry_points,) = [name for name in wheels["torana_server"] if name.endswith(".dist-info/entry_points.txt")]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert entry_points
    assert [json.loads(line) for line in instructions("ENTRYPOINT")] == [[name] for name in scripts]


def test_the_image_runs_the_python_that_the_tests_run_on() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert instructions("ARG") == [f"PYTHON_VERSION={requires.removeprefix('>=')}"]


def test_the_image_installs_only_pinned_and_hashed_packages() -> None:
    installs = re.findall(r"pip install ([^&\n]+)", DOCKERFILE)
    assert installs
    assert [line for line in installs if "--require-hashes" not in line and "--no-index" not in line] == []


def test_the_server_does_not_run_as_root() -> None:
    final_stage = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    (user,) = re.findall(r"^USER (\S+)$", final_stage, flags=re.MULTILINE)
    assert user not in {"root", "0"}


@pytest.fixture
def reported() -> Iterator[tuple[health.HealthServicer, int]]:
    """A health service to set a status on, and the port it answers on."""
    servicer = health.HealthServicer()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, port
    server.stop(grace=None).wait()


def run_health_check(port: int) -> int:
    (line,) = instructions("HEALTHCHECK")
    python, *arguments = json.loads(line[line.index("[") :])
    assert python == "python"
    arguments = [argument.replace("127.0.0.1:7233", f"127.0.0.1:{port}") for argument in arguments]
    return subprocess.run([sys.executable, *arguments], stderr=subprocess.DEVNULL).returncode


@pytest.mark.parametrize(("status", "code"), [(SERVING, 0), (NOT_SERVING, 1)])
def test_the_health_check_passes_only_while_the_server_serves(reported, status, code: int) -> None:
    servicer, port = reported
    servicer.set("", status)
    assert run_health_check(port) == code


def test_the_health_check_asks_the_port_that_the_image_serves_on() -> None:
    (port,) = instructions("EXPOSE")
    (command,) = (json.loads(line) for line in instructions("CMD"))
    assert f"0.0.0.0:{port}" in command
    assert f"127.0.0.1:{port}" in instructions("HEALTHCHECK")[0]
