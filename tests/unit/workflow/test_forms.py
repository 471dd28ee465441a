from __future__ import annotations

import dataclasses
import json

import jsonschema
import pytest
from hypothesis import given, settings

from torana_server.core.errors import InvalidWorkflowError
from torana_server.workflow import (
    Connection,
    Definition,
    Durability,
    RetryPolicy,
    Step,
    StepTimeout,
    canonical_definition,
    from_form,
    from_json,
    from_yaml,
    json_schema,
    parse_duration,
    revision_of,
    to_form,
    to_json,
    to_yaml,
)
from unit.workflow.definitions import definitions


@given(definitions)
def test_json_reads_back_without_loss(definition: Definition) -> None:
    assert from_json(to_json(definition)) == definition
    assert from_json(to_json(definition).encode()) == definition
    assert from_json(to_form(definition)) == definition


@settings(max_examples=300)
@given(definitions)
def test_yaml_reads_back_without_loss(definition: Definition) -> None:
    assert from_yaml(to_yaml(definition)) == definition


@given(definitions)
def test_a_revision_is_the_same_whatever_form_a_definition_went_through(definition: Definition) -> None:
    revision = revision_of(definition)
    assert revision_of(from_json(to_json(definition))) == revision
    assert revision_of(from_yaml(to_yaml(definition))) == revision
    assert revision_of(from_json(canonical_definition(definition))) == revision


@given(definitions)
def test_what_is_written_fits_the_schema(definition: Definition) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(to_form(definition))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$defs"].keys() == {"Step", "Connection", "Retry", "Timeout"}


WRITTEN = """\
name: user_etl
description: Loads users
labels: {team: data, "on": yes}
timeout: 1h
retry: {max_attempts: 3, initial_interval: 500ms}
durability: every_n_steps
durability_steps: 5
steps:
- name: extract
  type: code
  required_resources: [source_db]
  config:
    source: |
      db = await get_resource("source_db")
      return {"users": await db.fetch("select 1")}
- name: notify
  type: http_request
  config: {url: "https://example.com", since: 2024-01-01, code: 012, ratio: 1e-3}
  inputs: {big: 18446744073709551616, empty: ~, flag: true}
  credentials_ref: hooks
  retry: {}
  timeout: {attempt: 90, total: 1h30m}
connections:
- {from_step: extract, from_output: users, to_step: notify, to_input: body}
"""


def test_yaml_is_read_as_people_mean_it() -> None:
    extract = 'db = await get_resource("source_db")\nreturn {"users": await db.fetch("select 1")}\n'
    assert from_yaml(WRITTEN) == Definition(
        name="user_etl",
        description="Loads users",
        labels={"team": "data", "on": "yes"},
        timeout_s=3600.0,
        retry=RetryPolicy(max_attempts=3, initial_interval_s=0.5),
        durability=Durability.EVERY_N_STEPS,
        durability_steps=5,
        steps=(
            Step(name="extract", type="code", required_resources=("source_db",), config={"source": extract}),
            Step(
                name="notify",
                type="http_request",
                config={"url": "https://example.com", "since": "2024-01-01", "code": "012", "ratio": 0.001},
                inputs={"big": 2**64, "empty": None, "flag": True},
                credentials_ref="hooks",
                retry=RetryPolicy(),
                timeout=StepTimeout(attempt_s=90.0, total_s=5400.0),
            ),
        ),
        connections=(Connection(from_step="extract", from_output="users", to_step="notify", to_input="body"),),
    )


def test_source_text_is_written_as_a_block() -> None:
    definition = Definition(name="w", steps=(Step(name="a", type="code", config={"source": "x = 1\nreturn x\n"}),))
    assert "source: |\n      x = 1\n      return x\n" in to_yaml(definition)


def test_anchors_and_merge_keys_work() -> None:
    text = "name: w\nsteps:\n- &a {name: a, type: code, config: {source: x}}\n- {<<: *a, name: b}\n"
    assert [step.name for step in from_yaml(text).steps] == ["a", "b"]


STEP = {"name": "a", "type": "code"}


@pytest.mark.parametrize(
    ("form", "problems"),
    [
        ([], ["must be an object, not a list"]),
        ({}, ["name: is required", "steps: is required"]),
        ({"name": 1, "steps": {}}, ["name: must be text, not a number", "steps: must be a list, not an object"]),
        (
            {"name": "w", "step": [], "steps": [{**STEP, "conifg": {}, "retry": {"max_attempt": 1}}], "xyzzy": 1},
            [
                "steps[0].retry.max_attempt: unknown key (did you mean 'max_attempts'?)",
                "steps[0].conifg: unknown key (did you mean 'config'?)",
                "step: unknown key (did you mean 'steps'?)",
                "xyzzy: unknown key; known are name, description, labels, steps, connections, timeout, retry, "
                "durability, durability_steps",
            ],
        ),
        (
            {"name": "w", "steps": [{**STEP, "timeout": {"attempt": "soon", "total": True}}], "timeout": "5 m"},
            [
                'steps[0].timeout.attempt: must be a number of seconds or text such as "30s", "500ms", "5m" or "1h30m"',
                'steps[0].timeout.total: must be a number of seconds or text such as "30s", "500ms", "5m" or "1h30m"',
                'timeout: must be a number of seconds or text such as "30s", "500ms", "5m" or "1h30m"',
            ],
        ),
        (
            {"name": "w", "steps": [{**STEP, "timeout": True}]},
            ["steps[0].timeout: must be an object, not true or false; its keys are attempt, total"],
        ),
        (
            {"name": "w", "steps": [STEP], "labels": {"version": 2}, "durability": "never"},
            [
                "labels.version: must be text, not a number",
                "durability: input should be 'every_step', 'every_n_steps' or 'stage_boundaries'",
            ],
        ),
        (
            {
                "name": "w",
                "steps": [STEP],
                "connections": [{"from_step": "a", "tostep": "b"}],
                "durability_steps": True,
            },
            [
                "connections[0].to_step: is required",
                "connections[0].tostep: unknown key (did you mean 'to_step'?)",
                "durability_steps: must be a whole number, not true or false",
            ],
        ),
    ],
)
def test_all_faults_of_the_form_are_reported_with_their_paths(form: object, problems: list[str]) -> None:
    with pytest.raises(InvalidWorkflowError) as caught:
        from_form(form)
    assert [str(violation) for violation in caught.value.violations] == problems


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON: Expecting property name"),
        ('{"name":"a","name":"b"}', "the key 'name' is there twice"),
        ("[NaN]", "NaN is not JSON"),
        ("[]", "must be an object"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_json_that_cannot_be_read_says_why(text: str | bytes, words: str) -> None:
    with pytest.raises(InvalidWorkflowError) as caught:
        from_json(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be an object, not null"),
        ("a: [", "line 1, column 5"),
        ("name: a\nname: b\n", "line 2, column 1: the key 'name' is there twice"),
        ("name: w\nsteps:\n- name: a\n  type: code\n  config: {a: 1, a: 2}\n", "line 5, column 18: the key 'a'"),
        ("name: !!python/name:os.system x\n", "could not determine a constructor"),
        ("name: w\n---\nname: x\n", "expected a single document in the stream but found another"),
        ("name: w\nsteps: []\nlabls: {}\n", "labls: unknown key (did you mean 'labels'?) (line 3)"),
        ("name: w\nsteps:\n- name: a\n", "steps[0].type: is required (line 3)"),
        ("name: w\nsteps: &s [*s]\n", "steps[0]: must be an object, not a list (line 2)"),
        ("name: w\nlabels: {1: a}\nsteps: []\n", "labels"),
        ("a: \x00", "special characters are not allowed"),
        ("[" * 5000, "nested too deep"),
    ],
)
def test_yaml_that_cannot_be_read_says_why_and_on_which_line(text: str, words: str) -> None:
    with pytest.raises(InvalidWorkflowError) as caught:
        from_yaml(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(30, 30.0), (0.5, 0.5), ("30s", 30.0), ("5m", 300.0), ("1h30m", 5400.0), ("500ms", 0.5), ("2d", 172_800.0)],
)
def test_durations_are_numbers_of_seconds_or_text_with_units(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize("value", ["", "30", "5 m", "-5s", "1h 30m", "s", True, None, [], "5M"])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="number of seconds"):
        parse_duration(value)


BASE = Definition(name="w", steps=(Step(name="a", type="code", config={"n": 1, "m": [1.0]}),))


def test_whole_floats_are_integers_in_a_revision_because_the_protobuf_form_cannot_tell() -> None:
    as_floats = dataclasses.replace(BASE, steps=(Step(name="a", type="code", config={"m": (1,), "n": 1.0}),))
    assert revision_of(as_floats) == revision_of(BASE)


@pytest.mark.parametrize(
    "changed",
    [
        dataclasses.replace(BASE, name="v"),
        dataclasses.replace(BASE, description="d"),
        dataclasses.replace(BASE, labels={"a": "b"}),
        dataclasses.replace(BASE, timeout_s=1.0),
        dataclasses.replace(BASE, durability=Durability.STAGE_BOUNDARIES),
        dataclasses.replace(BASE, retry=RetryPolicy(max_attempts=2)),
        dataclasses.replace(BASE, steps=(dataclasses.replace(BASE.steps[0], retry=RetryPolicy()),)),
        dataclasses.replace(BASE, steps=(dataclasses.replace(BASE.steps[0], config={"n": 1.5, "m": [1.0]}),)),
    ],
)
def test_each_change_makes_a_new_revision(changed: Definition) -> None:
    assert revision_of(changed) != revision_of(BASE)


def test_the_canonical_form_is_fixed() -> None:
    """Journals name revisions for ever: a change here orphans every stored execution."""
    text = '{"name":"w","steps":[{"config":{"m":[1],"n":1},"name":"a","type":"code"}]}'
    assert canonical_definition(BASE) == text
    assert json.loads(text) == to_form(BASE)
    assert revision_of(BASE) == "cdb84d5a3b1cec500a7460c7f83362089117229f7898c1c4088eab4548ba8208"


@pytest.mark.parametrize(("form", "attempt_s"), [("5s", 5.0), (30, 30.0), (0.5, 0.5)])
def test_a_timeout_that_is_a_duration_alone_is_that_of_one_attempt(form: object, attempt_s: float) -> None:
    definition = from_json({"name": "w", "steps": [{**STEP, "timeout": form}]})
    assert definition.steps[0].timeout == StepTimeout(attempt_s=attempt_s)
