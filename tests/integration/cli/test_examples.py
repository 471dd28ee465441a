"""The examples run as their files say."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from integration.cli.servers import ROOT, TIMEOUT_S, environment, serving, torana

EXAMPLES = ROOT / "examples"


def python(*arguments: str, cwd=None, **variables: str) -> str:
    ran = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment(**variables),
        cwd=cwd,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_hello() -> None:
    ran = torana("run", str(EXAMPLES / "hello.yaml"), "-p", "name=World", "--quiet")
    assert json.loads(ran.stdout) == {"greet": {"greeting": "Hello, World!"}, "measure": {"length": 13}}


def test_embedding(tmp_path) -> None:
    assert python(str(EXAMPLES / "embedding.py"), cwd=tmp_path).splitlines() == [
        "in this process: completed {'average': 5.333333333333333}",
        "over gRPC: completed {'average': 4.333333333333333}",
    ]


def test_watching(tmp_path) -> None:
    with serving(tmp_path, "--workflows", str(EXAMPLES)) as server:
        watching = str(EXAMPLES / "watching.py")
        execution = python(watching, "start", TORANA_ADDRESS=server.address).strip()
        everything = python(watching, "watch", execution, TORANA_ADDRESS=server.address).splitlines()
        the_rest = python(watching, "watch", execution, "5", TORANA_ADDRESS=server.address).splitlines()
    assert everything[0] == "1 accepted "
    assert the_rest == everything[5:]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.*")), ids=lambda path: path.name)
def test_every_example_is_in_the_list(path) -> None:
    assert path.name == "README.md" or f"({path.name})" in (EXAMPLES / "README.md").read_text("utf-8")
