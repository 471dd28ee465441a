from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from architecture.sources import CLIENT, ROOT, is_generated

STUBS = CLIENT / "torana/v1"


def generated(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in folder.iterdir() if is_generated(path)}


def test_generated_code_is_what_the_protos_generate(tmp_path: Path) -> None:
    tools = Path(sys.executable).parent
    env = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run([tools / "buf", "generate", "--output", tmp_path], cwd=ROOT, env=env, check=True)
    fresh, committed = generated(tmp_path / "clients/python/torana/v1"), generated(STUBS)
    stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    assert not stale, f"run `make proto` and commit: {', '.join(stale)}"


def test_the_client_asks_for_the_runtimes_its_stubs_were_generated_for() -> None:
    """Older ones refuse the stubs at import, so the floors in pyproject.toml follow the generators."""
    grpcio = versions(STUBS.glob("*_pb2_grpc.py"), r"GRPC_GENERATED_VERSION = '([\d.]+)'")
    protobuf = versions(STUBS.glob("*_pb2.py"), r"# Protobuf Python Version: ([\d.]+)")
    floors = client_floors()
    assert {"grpcio": grpcio, "protobuf": protobuf} == {
        "grpcio": {floors["grpcio"]},
        "protobuf": {floors["protobuf"]},
    }


def versions(paths, pattern: str) -> set[str]:
    return {match[1] for path in paths for match in re.finditer(pattern, path.read_text("utf-8"))}


def client_floors() -> dict[str, str]:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text("utf-8"))["project"]
    requirements = (Requirement(line) for line in project["dependencies"])
    return {one.name: clause.version for one in requirements for clause in one.specifier if clause.operator == ">="}
