"""`torana serve MODULE:GATEWAY`: what is found, what is refused, and which settings a gateway takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from torana_server import Gateway, Settings
from torana_server.cli.exits import UsageError
from torana_server.cli.modules import gateway_named
from torana_server.settings import load_settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Modules that a test makes are unloaded at its end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


GOOD = """
from torana_server import Gateway
gateway = Gateway(title="Shop", enable_durability=False)
def make():
    return gateway
"""


def write(text: str, name: str) -> None:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")


def named(target: str, **options: object) -> Gateway:
    return gateway_named(target, load_settings(options))


def refused(target: str, **options: object) -> str:
    with pytest.raises(UsageError) as caught:
        named(target, **options)
    return str(caught.value)


@pytest.mark.parametrize("target", ["shop_a:gateway", "shop_a.py:gateway", "shop_a:make", "./shop_a.py:make"])
def test_a_gateway_is_found_by_module_file_and_function(target: str) -> None:
    write(GOOD, "shop_a.py")
    assert named(target).settings.title == "Shop"


def test_a_file_finds_what_lies_beside_it() -> None:
    write("from shop_parts import gateway", "inner/shop_b.py")
    write(GOOD, "inner/shop_parts.py")
    assert named("inner/shop_b.py:gateway").settings.title == "Shop"


def test_a_gateway_made_without_settings_takes_those_of_the_command(monkeypatch) -> None:
    write(GOOD, "shop_c.py")
    write("running_max = 3", "torana.toml")
    monkeypatch.setenv("TORANA_QUEUED_MAX", "4")
    settings = named("shop_c:gateway", threads_max=5).settings
    assert (settings.running_max, settings.queued_max, settings.threads_max) == (3, 4, 5)


def test_an_option_that_the_gateway_overrides_is_refused() -> None:
    write(GOOD, "shop_d.py")
    said = refused("shop_d:gateway", journal="sqlite", threads_max=5)
    assert said == "--journal: shop_d:gateway decides that itself; leave the option out"


def test_a_line_of_the_file_that_the_gateway_overrides_is_told(capsys) -> None:
    write("from torana_server import *\ngateway = Gateway(settings=Settings(running_max=9))", "shop_e.py")
    write("running_max = 3", "torana.toml")
    assert named("shop_e:gateway").settings.running_max == 9
    assert "torana.toml: running_max has no effect: shop_e:gateway decides" in capsys.readouterr().err


def test_variables_are_under_what_the_code_says(monkeypatch, capsys) -> None:
    write("from torana_server import *\ngateway = Gateway(settings=Settings(running_max=9))", "shop_f.py")
    monkeypatch.setenv("TORANA_RUNNING_MAX", "4")
    assert named("shop_f:gateway").settings.running_max == 9
    assert not capsys.readouterr().err


def test_address_and_workflows_are_the_commands_own() -> None:
    write(GOOD, "shop_g.py")
    assert named("shop_g:gateway", address="127.0.0.1:1", workflows_dir=Path("flows"))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop_h", "'shop_h' does not name a gateway: write MODULE:NAME, such as shop:gateway"),
        ("shop_h:", "does not name a gateway"),
        ("flows", "flows is a folder; for the YAML files in it give --workflows flows"),
        ("shop_hh:gateway", "there is no module 'shop_hh' here or installed (did you mean 'shop_h'?)"),
        ("shop_hh.py:gateway", "there is no file shop_hh.py (did you mean 'shop_h.py'?)"),
        ("shop_h:gatway", "shop_h has no 'gatway' (did you mean 'gateway'?)"),
        ("shop_h:zzz", "shop_h has no 'zzz'; it has the gateway 'gateway'"),
        ("shop_h:number", "shop_h:number is of type int; it must be a Gateway, or a function that returns one"),
        ("shop_h:nothing", "shop_h:nothing returned None; it must return a Gateway"),
        ("shop_h:later", "shop_h:later is an async function; make it a plain one that returns a Gateway"),
        ("shop_h:needs", "shop_h:needs needs arguments"),
    ],
)
def test_what_names_no_gateway_is_refused_with_what_to_do(target: str, said: str) -> None:
    more = "number = 1\ndef nothing(): pass\nasync def later(): return gateway\ndef needs(x): return gateway\n"
    write(GOOD + more, "shop_h.py")
    Path("flows").mkdir()
    assert said in refused(target)


@pytest.mark.parametrize(
    ("text", "said", "shown"),
    [
        ("def broken():\n    return 1 / 0\nbroken()\n", "cannot be imported", "line 2, in broken"),
        ("import nothing_like_it\n", "it needs the module 'nothing_like_it'", "line 1, in <module>"),
        ("gateway = (\n", "cannot be imported", "SyntaxError"),
        ("from torana_server import *\ngateway = Gateway(data=1)\n", "cannot be imported", "line 2, in <module>"),
    ],
)
@pytest.mark.parametrize("target", ["shop_i:gateway", "shop_i.py:gateway"])
def test_what_the_module_raises_is_shown_with_its_own_lines(text, said, shown, target, capsys) -> None:
    write(text, "shop_i.py")
    assert said in refused(target)
    told = capsys.readouterr().err
    assert shown in told
    assert "importlib" not in told
    assert "torana_server/cli" not in told


def test_what_a_function_raises_is_shown_with_its_own_lines(capsys) -> None:
    write("def make():\n    raise KeyError('catalogue')\n", "shop_j.py")
    assert refused("shop_j:make") == "shop_j:make failed"
    told = capsys.readouterr().err
    assert "shop_j.py" in told
    assert "KeyError: 'catalogue'" in told
    assert "torana_server/cli" not in told


def test_settings_of_the_command_are_in_force_only_while_the_module_loads() -> None:
    write(GOOD, "shop_k.py")
    named("shop_k:gateway", threads_max=5)
    assert Gateway(enable_durability=False).settings.threads_max == Settings().threads_max
