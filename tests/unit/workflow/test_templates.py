from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana_server.core.errors import Reason, StepError
from torana_server.core.values import encode
from torana_server.workflow import Outcome, TemplateScope, holds_template
from torana_server.workflow.templates import Sources, compile_template, render

PARAMETERS = {"x": 1, "name": "Ada", "list": [1, {"a": True}], "null": None, "day": date(2024, 1, 2), "a.b": "dot"}
SCOPE = TemplateScope(
    encode(PARAMETERS),
    encode({"user": {"id": "u1"}, "raw": "${x} {{a}}"}),
    {"tenant_id": "t"},
    {"REGION": "eu"},
)
OUTCOMES = {"a": Outcome(encode({"rows": [{"id": 5}], "result": {"n": 1}})), "gone": Outcome(None)}


def rendered(value: object, scope: TemplateScope = SCOPE) -> Any:
    template, problems = compile_template({"value": value}, "config")
    assert problems == []
    return render(template, Sources(scope, OUTCOMES))["value"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${parameters.x}", 1),
        ("${x}", 1),
        ("${ x }", 1),
        ("${parameters}", PARAMETERS),
        ("${list.1.a}", True),
        ("${null}", None),
        ("${day}", date(2024, 1, 2)),
        (r"${a\.b}", "dot"),
        ("${context.user.id}", "u1"),
        ("${session.tenant_id}", "t"),
        ("${session}", {"tenant_id": "t"}),
        ("${env.REGION}", "eu"),
        ("{{a.rows.0.id}}", 5),
        ("{{ a.result.rows.0 }}", {"id": 5}),
        ("{{a.result.result.n}}", 1),
        ("{{a.result}}", {"rows": [{"id": 5}], "result": {"n": 1}}),
        ("{{a}}", {"rows": [{"id": 5}], "result": {"n": 1}}),
    ],
)
def test_a_string_that_is_one_template_keeps_the_type_of_the_value(text: str, value: object) -> None:
    assert rendered(text) == value
    assert type(rendered(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("hello ${name}!", "hello Ada!"),
        ("${x}${x}", "11"),
        ("n=${null} t=${list.1.a}", "n=null t=true"),
        ("rows: {{a.rows}}", 'rows: [{"id":5}]'),
        ("since ${day}", "since 2024-01-02"),
        ('{"a":{"b":{{a.rows.0.id}}}}', '{"a":{"b":5}}'),
    ],
)
def test_inside_longer_strings_text_stays_text_and_the_rest_becomes_json(text: str, value: str) -> None:
    assert rendered(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$${x}", "${x}"),
        ("{{{{a}}", "{{a}}"),
        ("cost: $5 {x} }} $", "cost: $5 {x} }} $"),
        ("$${x} is ${x}", "${x} is 1"),
        ("$$${x}", "$${x}"),
    ],
)
def test_escapes_stand_for_the_marks_themselves(text: str, value: str) -> None:
    assert rendered(text) == value


def test_what_a_template_brings_in_is_not_expanded_again() -> None:
    assert rendered("${context.raw}") == "${x} {{a}}"
    assert rendered("<${context.raw}>") == "<${x} {{a}}>"


def test_templates_are_filled_in_at_any_depth_and_keys_are_literal() -> None:
    assert rendered({"a": ["${x}", {"${x}": "${name}"}]}) == {"a": [1, {"${x}": "Ada"}]}


def test_literal_fields_are_left_alone() -> None:
    config = {"source": "f'${x} {{y'", "url": "${x}"}
    template, problems = compile_template(config, "config", frozenset({"source"}))
    assert problems == []
    assert render(template, Sources(SCOPE, {})) == {"source": "f'${x} {{y'", "url": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${x", "does not end"),
        ("a {{ b", "does not end"),
        ("${}", "other than a dotted path"),
        ("${a..b}", "other than a dotted path"),
        ("${a + b}", "other than a dotted path"),
        ("${__import__('os')}", "other than a dotted path"),
        ("{{ user | upper }}", "other than a dotted path"),
        ("{{{x}}", "other than a dotted path"),
    ],
)
def test_what_is_no_path_is_refused_with_the_way_to_escape_it(text: str, words: str) -> None:
    _, problems = compile_template({"deep": [{"url": text}]}, "steps[0].config")
    assert [problem.path for problem in problems] == ["steps[0].config.deep[0].url"]
    assert words in problems[0].message
    assert "where the text" in problems[0].message


def test_all_faulty_templates_of_a_string_are_reported() -> None:
    _, problems = compile_template({"v": "${a b} and {{c d}} and ${"}, "config")
    assert len(problems) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${missing}", "no 'missing' in it, which has the keys x, name, list, null, day, a.b"),
        ("${list.7}", "no '7' in list, which has the indexes 0 to 1"),
        ("${x.y}", "nothing inside: it is of type int"),
        ("${null.y}", "it is null"),
        ("<${env.HOME}>", "the keys REGION"),
        ("{{gone.x}}", "step 'gone' has no output; steps that have one: a"),
        ("{{a.x}}", "the keys rows, result"),
    ],
)
def test_a_template_that_leads_nowhere_names_itself_and_what_there_is(text: str, words: str) -> None:
    with pytest.raises(StepError) as caught:
        rendered(text)
    assert caught.value.reason is Reason.TEMPLATE_ERROR
    assert words in caught.value.message
    assert caught.value.metadata["template"] in text


def test_each_rendering_is_fresh_and_shares_nothing() -> None:
    template, _ = compile_template({"a": "${list}", "b": "${list}", "c": [[1]]}, "config")
    sources = Sources(SCOPE, OUTCOMES)
    first = render(template, sources)
    first["a"].append(2)
    first["c"][0].append(2)
    assert first["b"] == PARAMETERS["list"]
    assert render(template, sources) == {"a": PARAMETERS["list"], "b": PARAMETERS["list"], "c": [[1]]}


def test_the_steps_a_template_names_are_known_before_it_is_filled_in() -> None:
    template, _ = compile_template({"v": ["{{b.x}}", {"k": "${x}: {{a}} {{b}}"}], "w": "{{{{c}}"}, "config")
    assert template.steps == ("b", "a")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def escaped(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r"\$\{|\{\{", lambda mark: {"${": "$${", "{{": "{{{{"}[mark[0]], value)
    if isinstance(value, dict):
        return {key: escaped(member) for key, member in value.items()}
    return [escaped(element) for element in value] if isinstance(value, list) else value


@given(json_values | st.text(alphabet="${} a"))
def test_any_value_can_be_written_by_escaping_the_marks(value: object) -> None:
    assert rendered(escaped(value)) == value


@given(json_values)
def test_any_value_passes_through_a_template_unchanged(value: object) -> None:
    assert rendered(["${v}"], TemplateScope(encode({"v": value}))) == [value]


@given(st.text(alphabet="${}a. \\"))
def test_any_text_either_renders_or_is_refused(text: str) -> None:
    template, problems = compile_template({"v": text}, "config")
    if not problems and not holds_template(text):
        assert isinstance(render(template, Sources(SCOPE, {}))["v"], str)
    assert all(problem.path == "config.v" and "where the text" in problem.message for problem in problems)
