"""The catalog of step types, what every type's config is held to, and the types that need no code."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest
from pydantic import Field

from torana_server.core.errors import ConflictError, InvalidRequestError, Reason, StepError, TypeNotFoundError
from torana_server.steps import (
    LITERAL,
    FunctionRegistry,
    Routed,
    StepConfig,
    StepContext,
    StepThreads,
    StepType,
    StepTypes,
    built_in_types,
)
from torana_server.steps import registry as registry_module
from torana_server.workflow import Step, StepCatalog
from unit.steps.world import World


class RequestConfig(StepConfig):
    url: str
    retries: int = 0
    headers: dict[str, str] = Field(default_factory=dict)
    codes: list[int] = Field(default_factory=list)
    script: str = Field(default="", json_schema_extra=LITERAL)
    limit: int = Field(default=1, json_schema_extra=LITERAL)


KEYS = "its keys are url, retries, headers, codes, script, limit"


class RequestStep(StepType[RequestConfig]):
    """A type as another package would bring it."""

    name = "request"
    description = "Returns its config"
    Config = RequestConfig

    async def run(self, ctx: StepContext, config: RequestConfig, inputs: dict[str, object]) -> object:
        return config.model_dump()


@pytest.mark.parametrize(
    ("config", "problems"),
    [
        ({"url": "x"}, []),
        ({}, ["url: is required"]),
        (
            {"url": "x", "retrys": 1},
            [f"retrys: is no key of 'request'; {KEYS} (did you mean 'retries'?)"],
        ),
        ({"url": "x", "zzz": 1}, [f"zzz: is no key of 'request'; {KEYS}"]),
        (
            {"url": 1, "retries": "many", "codes": [200, "no"]},
            [
                "url: Input should be a valid string",
                "retries: Input should be a valid integer, unable to parse string as an integer",
                "codes[1]: Input should be a valid integer, unable to parse string as an integer",
            ],
        ),
        ({"url": "${parameters.url}", "retries": "${retries}", "codes": "{{load.codes}}", "headers": "${h}"}, []),
        ({"url": "x", "codes": [1, "{{load.code}}"]}, []),
        (
            {"url": "x", "limit": "${limit}"},
            ["limit: Input should be a valid integer, unable to parse string as an integer"],
        ),
    ],
)
def test_all_problems_are_reported_with_their_paths(config: dict[str, object], problems: list[str]) -> None:
    assert [str(problem) for problem in RequestStep().problems(config)] == problems


def test_literal_fields_come_from_the_schema() -> None:
    assert RequestStep().literal_fields == {"script", "limit"}
    assert RequestStep().config_schema()["properties"]["script"]["x-template"] is False


@pytest.mark.parametrize("step_type", built_in_types(FunctionRegistry(), StepThreads(1)), ids=lambda t: t.name)
def test_every_built_in_type_describes_itself(step_type: StepType[Any]) -> None:
    assert step_type.description
    assert step_type.config_schema()["additionalProperties"] is False
    assert step_type.requires({}) >= {step_type.name}
    assert step_type.routes({}) == (frozenset({"true", "false"}) if step_type.name == "switch" else frozenset())


def test_source_and_function_names_are_literal() -> None:
    types = World().types
    assert types.find("code").literal_fields == {"source"}
    assert types.find("function").literal_fields == {"function", "version"}


def test_the_catalog_lists_and_finds_what_was_registered() -> None:
    types: StepCatalog = World().types
    assert types.names() == ["code", "compose", "function", "switch"]
    assert types.get("nothing") is None


def test_a_type_of_another_package_enters_by_the_same_door() -> None:
    types = World().types
    types.register(RequestStep())
    assert types.find("request").name == "request"
    with pytest.raises(ConflictError, match="'request' is registered already"):
        types.register(RequestStep())


def test_what_is_no_step_type_is_refused() -> None:
    class Unnamed(RequestStep):
        name = "not a name"

    with pytest.raises(InvalidRequestError, match="subclass of StepType"):
        StepTypes().register(RequestStep)  # type: ignore[arg-type]  # a class instead of an object
    with pytest.raises(InvalidRequestError, match="cannot name a step type"):
        StepTypes().register(Unnamed())


def test_an_unknown_type_suggests_the_nearest() -> None:
    with pytest.raises(TypeNotFoundError, match="did you mean 'switch'"):
        World().types.find("swich")
    with pytest.raises(TypeNotFoundError, match="there are code, compose, function, switch"):
        World().types.find("zzz")


def offer(monkeypatch: pytest.MonkeyPatch, value: str) -> StepTypes:
    entry = EntryPoint("offered", value, registry_module.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [entry] if group == entry.group else [])
    return StepTypes()


def test_installed_packages_bring_types_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    types = offer(monkeypatch, "torana_server.steps.types.compose:ComposeStep")
    types.load_entry_points()
    assert types.names() == ["compose"]


@pytest.mark.parametrize("value", ["no_such_module:Type", "torana_server.steps.types.compose:Missing"])
def test_an_entry_point_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"entry point 'offered' of torana.step_types .{value}"):
        offer(monkeypatch, value).load_entry_points()


async def test_compose_outputs_its_rendered_value() -> None:
    step = Step(name="sum_up", type="compose", config={"value": {"id": 7, "tags": ["a"]}})
    assert await World().run(step, {"ignored": 1}) == {"id": 7, "tags": ["a"]}


async def test_a_rendered_config_is_validated_at_each_attempt() -> None:
    world = World()
    world.types.register(RequestStep())
    step = Step(name="call", type="request", config={"url": "x", "retries": "${n}"})
    call = world.call(step)
    call.config["retries"] = 3
    assert '"retries":3' in (await world.runner.run(call, world.events)).output.json
    call.config["retries"] = "many"
    with pytest.raises(StepError, match="once its templates have values: retries: ") as caught:
        await world.runner.run(call, world.events)
    assert caught.value.reason is Reason.TEMPLATE_ERROR
    assert caught.value.metadata == {"path": "config.retries"}


ORDER: dict[str, object] = {"order": {"tier": "gold", "lines": [{"n": 1}], "a.b": True}}
ROUTES: dict[str, tuple[dict[str, object], dict[str, object], str, object]] = {
    "by the value of an input": ({"input": "n", "cases": {"one": 1, "two": 2}}, {"n": 2}, "two", 2),
    "by the value of a field": (
        {"input": "order", "field": "tier", "cases": {"fast": ["gold", "silver"]}},
        ORDER,
        "fast",
        ORDER["order"],
    ),
    "by a field of all inputs": ({"field": "order.lines.0.n", "cases": {"one": 1}}, ORDER, "one", ORDER),
    "by a field with a dot in its name": ({"field": r"order.a\.b"}, ORDER, "true", ORDER),
    "by true": ({"input": "valid"}, {"valid": True}, "true", True),
    "by false": ({"input": "valid"}, {"valid": False}, "false", False),
    "to the default when no case fits": ({"input": "n", "cases": {"one": 1}, "default": "other"}, {"n": 5}, "other", 5),
    "to the default when the field is not there": ({"field": "order.x.y", "default": "other"}, ORDER, "other", ORDER),
    "to the default when it is no boolean": ({"input": "n", "default": "other"}, {"n": 1}, "other", 1),
    "one is one point zero": ({"input": "n", "cases": {"one": 1}}, {"n": 1.0}, "one", 1.0),
    "true is not one": ({"input": "n", "cases": {"one": 1, "yes": True}}, {"n": True}, "yes", True),
    "nested true is not one": ({"input": "n", "cases": {"a": [[1]], "b": [[True]]}}, {"n": [True]}, "b", [True]),
    "null is a value": ({"input": "n", "cases": {"none": None}}, {"n": None}, "none", None),
    "objects compare whole": ({"input": "n", "cases": {"a": {"x": 1}}}, {"n": {"x": 1}}, "a", {"x": 1}),
}


@pytest.mark.parametrize("rule", ROUTES)
async def test_a_switch_routes(rule: str) -> None:
    config, inputs, route, output = ROUTES[rule]
    world = World()
    assert world.types.find("switch").problems(config) == []
    assert route in world.types.find("switch").routes(config)
    step_type: StepType[Any] = world.types.find("switch")
    routed = await step_type.run(None, step_type.validated(config), inputs)  # type: ignore[arg-type]  # needs no context
    assert routed == Routed(output, route)
    result = await world.runner.run(world.call(Step(name="s", type="switch", config=config), inputs), world.events)
    assert result.route == route


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"input": "n", "cases": {"one": 1, "two": 2}}, "input 'n' is 5, which takes none of the routes one, two"),
        ({"input": "n"}, "input 'n' is 5, which takes none of the routes true, false"),
        ({"field": "x.y", "cases": {"one": 1}}, "'x.y' of the inputs is not there; the routes are one"),
    ],
)
async def test_a_switch_without_a_fitting_case_names_value_and_routes(config: dict[str, object], message: str) -> None:
    with pytest.raises(StepError, match=message):
        await World().run(Step(name="s", type="switch", config=config), {"n": 5})


async def test_a_switch_names_the_input_it_lacks() -> None:
    with pytest.raises(StepError, match=r"needs input 'valid'.*supplied: n") as caught:
        await World().run(Step(name="s", type="switch", config={"input": "valid", "default": "other"}), {"n": 5})
    assert caught.value.reason is Reason.INPUT_NOT_FOUND


@pytest.mark.parametrize(
    ("config", "problems"),
    [
        ({"cases": {"error": 1}}, ["cases.error: 'error' is the route of steps that fail; choose another name"]),
        ({"default": "a b"}, ["default: 'a b' cannot name a route: it needs a letter"]),
        ({"cases": {"a": 1, "b": [2, 1.0]}}, ["cases.b: has the value 1.0, which case 'a' has already"]),
        ({"field": "a..b"}, ["field: 'a..b' is not a path"]),
        ({"cases": {"a": 1, "b": True}}, []),
        ({"cases": {"a": "${x}", "b": "${x}"}}, []),
        (
            {"case": {}},
            ["case: is no key of 'switch'; its keys are input, field, cases, default (did"],
        ),
    ],
)
def test_a_switch_that_cannot_work_is_refused(config: dict[str, object], problems: list[str]) -> None:
    found = [str(problem) for problem in World().types.find("switch").problems(config)]
    assert len(found) == len(problems)
    assert all(actual.startswith(expected) for actual, expected in zip(found, problems, strict=True))


def test_a_switch_tells_all_its_routes() -> None:
    switch = World().types.find("switch")
    assert switch.routes({"cases": {"a": 1, "b": 2}, "default": "c"}) == {"a", "b", "c"}
    assert switch.routes({"default": "c"}) == {"true", "false", "c"}
    assert switch.routes({"cases": "broken", "default": 3}) == {"true", "false"}
