"""Arbitrary definitions of the right shape, whether they compile or not."""

from __future__ import annotations

from hypothesis import strategies as st

from torana_server.workflow import Connection, Definition, Durability, RetryPolicy, Step, StepTimeout

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
yaml_traps = st.sampled_from(
    [
        "yes",
        "on",
        "~",
        "null",
        "012",
        "1e3",
        "1_000",
        "0x1F",
        "2024-01-01",
        "1:30",
        "<<",
        "=",
        "- a",
        "a: b",
        "#",
        "'",
        "",
        " ",
        "\n",
        "a\nb",
        "a\n",
        " a\n b\n",
        "\ta\n",
        "a \nb",
        "é\u2028\n",
        "\x85",
        "\x00",
        "\ufeff",
        ".inf",
        "-",
        "1.0",
        "!x",
        "&x",
        "*x",
        "%x",
        "@x",
        "a #b",
        "---",
        "...",
        "a\r\nb",
        "\n\na",
    ]
)
words = texts | yaml_traps
floats = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(words, json_values, max_size=3)
names = st.sampled_from(["a", "B", "load_users", "null", "on", "e1-2"])
seconds = st.floats(0.001, 1e6) | st.integers(1, 10**6).map(float)
retries = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 9),
    initial_interval_s=seconds,
    backoff=st.floats(1, 10),
    max_interval_s=seconds,
    jitter=st.floats(0, 1),
    retry_on=st.lists(words, max_size=2).map(tuple),
    never_retry_on=st.lists(words, max_size=2).map(tuple),
)
steps = st.builds(
    Step,
    name=names,
    type=names,
    config=objects,
    inputs=objects,
    required_resources=st.lists(names, max_size=2).map(tuple),
    credentials_ref=st.just("") | names,
    retry=st.none() | retries,
    timeout=st.builds(StepTimeout, attempt_s=seconds, total_s=st.none() | seconds),
)
connections = st.builds(Connection, from_step=names, to_step=names, from_output=words, to_input=words, route=words)
definitions = st.builds(
    Definition,
    name=names,
    description=words,
    labels=st.dictionaries(words, words, max_size=2),
    steps=st.lists(steps, min_size=1, max_size=3).map(tuple),
    connections=st.lists(connections, max_size=3).map(tuple),
    timeout_s=st.none() | seconds,
    retry=retries,
    durability=st.sampled_from(Durability),
    durability_steps=st.integers(1, 100),
)
