from __future__ import annotations

import pytest

from torana_server.core.errors import ConflictError, Reason, TypeNotFoundError
from torana_server.resources import ResourceSettings, ResourceTypes
from torana_server.resources.redaction import scrubber
from unit.resources.things import Outside, thing_type


def test_operators_register_types_by_the_same_door_and_names_are_taken_once() -> None:
    types = ResourceTypes.standard()
    mine = thing_type(Outside())
    types.register(mine)
    types.register(mine)
    assert type(types.get("thing")) is mine
    with pytest.raises(ConflictError, match="thing"):
        types.register(thing_type(Outside()))


def test_a_type_needs_a_name_that_can_be_one() -> None:
    nameless = type("Nameless", (thing_type(Outside()),), {"name": "two words"})
    with pytest.raises(ValueError, match="Nameless needs a name"):
        ResourceTypes().register(nameless)


def test_an_unknown_type_is_not_found_with_what_there_is() -> None:
    with pytest.raises(TypeNotFoundError, match="known are cache, database, http_client") as caught:
        ResourceTypes.standard().get("zzz")
    assert caught.value.reason is Reason.RESOURCE_TYPE_NOT_FOUND


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_settings_are_positive_and_finite(value: float) -> None:
    with pytest.raises(ValueError, match="idle_timeout_s must be a positive number"):
        ResourceSettings(idle_timeout_s=value)


def test_scrubbing_finds_credentials_at_any_depth_and_longer_ones_first() -> None:
    scrub = scrubber({"headers": {"a": ["canary", "canary-two"]}, "user": "x"}, lambda text: text.replace("known", "-"))
    assert scrub("x said canary-two\n and canary, known") == "x said [redacted] and [redacted], -"
