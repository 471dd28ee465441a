"""Settings of Python code: arguments above variables above defaults, and every problem at once."""

from __future__ import annotations

import pytest

from torana_server import Gateway, Settings
from torana_server.core.errors import InvalidRequestError
from torana_server.settings import settings_in_force


@pytest.fixture(autouse=True)
def no_variables(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)


def problems(**arguments: object) -> list[str]:
    with pytest.raises(InvalidRequestError) as caught:
        Settings(**arguments)
    return [str(violation) for violation in caught.value.violations]


def test_arguments_stand_above_variables_and_variables_above_defaults(monkeypatch) -> None:
    monkeypatch.setenv("TORANA_RUNNING_MAX", "7")
    monkeypatch.setenv("TORANA_TITLE", "of a variable")
    settings = Settings(title="of an argument")
    assert (settings.title, settings.running_max, settings.queued_max) == ("of an argument", 7, 10_000)


def test_an_empty_variable_counts_as_not_set(monkeypatch) -> None:
    monkeypatch.setenv("TORANA_TLS_CERT", "")
    assert Settings().tls_cert is None


def test_python_code_reads_no_file_of_the_folder_it_runs_in(tmp_path) -> None:
    (tmp_path / "torana.toml").write_text("running_max = 7\n")
    assert Settings().running_max == 1_000


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("TORANA_ADRESS", "TORANA_ADRESS: is no setting (did you mean 'TORANA_ADDRESS'?)"),
        ("TORANA_SOMETHING_ELSE_ENTIRELY", "TORANA_SOMETHING_ELSE_ENTIRELY: is no setting"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(monkeypatch, name: str, said: str) -> None:
    monkeypatch.setenv(name, "hunter2")
    assert problems() == [said]


def test_an_unknown_argument_is_refused_with_the_nearest_name() -> None:
    assert problems(runing_max=3) == ["Settings(runing_max=…): is no setting (did you mean 'running_max'?)"]


@pytest.mark.parametrize("name", ["TORANA_CONFIG", "TORANA_SERVER", "TORANA_DEBUG"])
def test_variables_of_the_commands_are_no_mistakes(monkeypatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    assert Settings().title == "Torana"


@pytest.mark.parametrize(
    "name",
    [
        "TORANA_SERVICE_HOST",
        "TORANA_SERVICE_PORT",
        "TORANA_SERVICE_PORT_GRPC",
        "TORANA_PORT",
        "TORANA_PORT_7233_TCP",
        "TORANA_PORT_7233_TCP_ADDR",
        "TORANA_BLUE_PORT_7233_TCP_PROTO",
        "TORANA_SERVER_SERVICE_HOST",
    ],
)
def test_what_kubernetes_puts_beside_a_service_of_that_name_is_no_mistake(monkeypatch, name: str) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:7233")
    assert Settings().title == "Torana"


def test_every_problem_is_told_at_once_under_its_source_and_without_values(monkeypatch) -> None:
    monkeypatch.setenv("TORANA_QUEUED_MAX", "hunter2")
    monkeypatch.setenv("TORANA_RUNING_MAX", "hunter3")
    found = problems(vault_keys=12_345, drain_grace_s=-1)
    assert [line.partition(":")[0] for line in found] == [
        "TORANA_RUNING_MAX",
        "Settings(drain_grace_s=…)",
        "TORANA_QUEUED_MAX",
        "Settings(vault_keys=…)",
    ]
    for secret in ("hunter2", "hunter3", "12345", "12_345"):
        assert secret not in str(found)


@pytest.mark.parametrize(
    ("written", "names"), [("REGION,STAGE", ("REGION", "STAGE")), (" REGION , ", ("REGION",)), ("", ())]
)
def test_a_list_in_a_variable_has_commas_between(monkeypatch, written: str, names: tuple[str, ...]) -> None:
    monkeypatch.setenv("TORANA_TEMPLATE_ENV", written)
    assert Settings().template_env == names


def test_names_that_no_variable_can_have_are_refused() -> None:
    assert "with commas between" in problems(template_env='["REGION"]')[0]


def test_a_log_level_may_be_written_small() -> None:
    assert Settings(log_level="debug").log_level == "DEBUG"


@pytest.mark.parametrize("bound", [float("inf"), float("nan")])
def test_numbers_are_finite(bound: float) -> None:
    assert problems(queue_timeout_s=bound)


def test_a_gateway_without_settings_takes_those_in_force() -> None:
    with settings_in_force(Settings(running_max=7)):
        inside = Gateway(enable_durability=False)
        chosen = Gateway(settings=Settings(running_max=9), enable_durability=False)
    assert (inside.settings.running_max, chosen.settings.running_max) == (7, 9)
    assert Gateway(enable_durability=False).settings.running_max == 1_000
