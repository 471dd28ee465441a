from __future__ import annotations

from collections.abc import Callable

import pytest

from torana_server.core.errors import (
    ConflictError,
    ExhaustedError,
    InvalidRequestError,
    Reason,
    ResourceNotBoundError,
    ResourceNotFoundError,
)
from torana_server.resources import ResourceReference, Resources, SharedName, binding_from
from torana_server.resources.reference import canonical_json
from unit.resources.things import Outside, thing, world_of
from unit.resources.world import ALICE, BOB, World


@pytest.fixture
def world() -> World:
    return world_of(Outside(), names_per_tenant_max=3)


@pytest.fixture
def resources(world: World) -> Resources:
    return world.resources()


def test_a_shared_name_becomes_the_reference_it_stands_for(resources: Resources, world: World) -> None:
    world.registry.register("main", thing("a"), tenant=ALICE.tenant)
    assert resources.bind(ALICE, {"db": SharedName("main")}, ["db"]) == {"db": thing("a")}


def test_an_operators_object_stays_a_name_for_every_tenant(resources: Resources, world: World) -> None:
    world.registry.register_factory("main", object)
    for principal in (ALICE, BOB):
        assert resources.bind(principal, {"db": SharedName("main")}, ["main"]) == {
            "db": SharedName("main"),
            "main": SharedName("main"),
        }


def test_required_names_nobody_bound_come_from_equal_shared_names(resources: Resources, world: World) -> None:
    world.registry.register("main", thing("a"), tenant=ALICE.tenant)
    assert resources.bind(ALICE, {"x": thing("b")}, ["main", "x"]) == {"x": thing("b"), "main": thing("a")}


def test_what_is_missing_is_named_in_full(resources: Resources) -> None:
    with pytest.raises(ResourceNotBoundError, match="one, two") as caught:
        resources.bind(ALICE, {"x": thing()}, ["one", "x", "two"])
    assert caught.value.reason is Reason.RESOURCE_NOT_BOUND


def test_register_as_shares_a_reference_within_the_tenant_only(resources: Resources) -> None:
    resources.bind(ALICE, {"db": thing("a", register_as="main")}, [])
    assert resources.bind(ALICE, {"x": SharedName("main")}, [])["x"] == thing("a")
    with pytest.raises(ResourceNotFoundError, match="@main"):
        resources.bind(BOB, {"x": SharedName("main")}, [])


def test_a_name_registered_by_the_same_request_can_be_used_in_it(resources: Resources) -> None:
    bound = resources.bind(ALICE, {"a": SharedName("main"), "b": thing("z", register_as="main")}, ["main"])
    assert bound["a"] == bound["main"] == thing("z")


@pytest.mark.parametrize("taken", ["request", "operator", "object"])
def test_register_as_never_replaces_something_different(resources: Resources, world: World, taken: str) -> None:
    if taken == "request":
        resources.bind(ALICE, {"db": thing("a", register_as="main")}, [])
    elif taken == "operator":
        world.registry.register("main", thing("a"), tenant=ALICE.tenant)
    else:
        world.registry.register_factory("main", object)
    with pytest.raises(ConflictError, match="main") as caught:
        resources.bind(ALICE, {"db": thing("b", register_as="main")}, [])
    assert caught.value.reason is Reason.RESOURCE_CONFLICT


def test_registering_the_same_again_is_no_conflict_and_keeps_a_reserved_name_reserved(
    resources: Resources, world: World
) -> None:
    world.registry.register("main", thing("a"), tenant=ALICE.tenant)
    resources.bind(ALICE, {"db": thing("a", register_as="main")}, [])
    shared = world.registry.get(ALICE.tenant, "main")
    assert shared is not None
    assert getattr(shared, "reserved", False)


def test_inline_references_are_remembered_under_their_own_names_when_asked_for(resources: Resources) -> None:
    resources.bind(ALICE, {"kept": thing("a")}, [], share_inline=True)
    resources.bind(ALICE, {"lost": thing("b")}, [])
    assert resources.bind(ALICE, {"x": SharedName("kept")}, [])["x"] == thing("a")
    for principal, name in ((ALICE, "lost"), (BOB, "kept")):
        with pytest.raises(ResourceNotFoundError, match=f"Resource not registered: @{name}"):
            resources.bind(principal, {"x": SharedName(name)}, [])


def test_a_remembered_name_means_what_the_latest_request_brought_and_conflicts_with_nothing(
    resources: Resources, world: World
) -> None:
    resources.bind(ALICE, {"db": thing("a")}, [], share_inline=True)
    assert resources.bind(ALICE, {"db": thing("b")}, [], share_inline=True) == {"db": thing("b")}
    assert resources.bind(ALICE, {"db": SharedName("db")}, [])["db"] == thing("b")
    resources.bind(ALICE, {"x": thing("c", register_as="db")}, [])
    world.registry.register_factory("ledger", object)
    assert resources.bind(ALICE, {"ledger": thing("d"), "db": thing("e")}, [], share_inline=True)["db"] == thing("e")
    bound = resources.bind(ALICE, {"db": SharedName("db"), "ledger": SharedName("ledger")}, [])
    assert bound == {"db": thing("c"), "ledger": SharedName("ledger")}


def test_a_request_may_refer_to_its_own_references_before_those_of_earlier_requests(resources: Resources) -> None:
    resources.bind(ALICE, {"main": thing("old")}, [], share_inline=True)
    bound = resources.bind(ALICE, {"main": thing("new"), "replica": SharedName("main")}, [], share_inline=True)
    assert bound["replica"] == thing("new")


def test_what_was_only_remembered_is_never_taken_for_a_resource_that_a_request_left_out(resources: Resources) -> None:
    resources.bind(ALICE, {"db": thing("a")}, ["db"], share_inline=True)
    with pytest.raises(ResourceNotBoundError, match="db"):
        resources.bind(ALICE, {}, ["db"], share_inline=True)


def test_the_oldest_remembered_names_are_forgotten_first(resources: Resources, world: World) -> None:
    for name in "abcad":
        resources.bind(ALICE, {name: thing(name)}, [], share_inline=True)
    assert [shared.name for shared in world.registry.shared(ALICE.tenant)] == ["a", "c", "d"]


@pytest.mark.parametrize(
    "bind",
    [
        lambda resources: resources.bind(ALICE, {}, ["db"]),
        lambda resources: resources.bind(ALICE, {"db": SharedName("nowhere")}, []),
        lambda resources: resources.bind(ALICE, {"db": ResourceReference("database", {"port": 0})}, []),
        lambda resources: resources.bind(ALICE, {"db": ResourceReference("databse")}, []),
    ],
)
def test_whatever_is_wrong_with_resources_is_a_value_error_that_says_resource(
    resources: Resources, bind: Callable[[Resources], object]
) -> None:
    with pytest.raises(ValueError, match="Resource"):
        bind(resources)


def test_two_meanings_of_one_name_in_a_request_conflict(resources: Resources) -> None:
    with pytest.raises(ConflictError):
        resources.bind(ALICE, {"a": thing("a", register_as="n"), "b": thing("b", register_as="n")}, [])


@pytest.mark.parametrize(
    ("bad", "required"),
    [({"bad": SharedName("nowhere")}, []), ({"bad": ResourceReference("nothing")}, []), ({}, ["missing"])],
)
def test_nothing_is_registered_when_anything_is_refused(
    resources: Resources, world: World, bad: dict[str, SharedName | ResourceReference], required: list[str]
) -> None:
    with pytest.raises((ResourceNotFoundError, InvalidRequestError, ResourceNotBoundError)):
        resources.bind(ALICE, {"db": thing("a", register_as="main"), **bad}, required)
    assert world.registry.shared(ALICE.tenant) == []


def test_every_violation_of_every_resource_has_its_path(resources: Resources) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        resources.bind(
            ALICE,
            {
                "db": ResourceReference("database", {"port": 0, "x": 1}),
                "bad name": thing(),
                "api": ResourceReference("htp_client"),
            },
            [],
        )
    assert sorted(violation.path for violation in caught.value.violations) == [
        "resources.api.type",
        "resources.bad name",
        "resources.db.config.port",
        "resources.db.config.x",
    ]


def test_a_tenant_has_a_bounded_number_of_names(resources: Resources) -> None:
    for name in ("a", "b", "c"):
        resources.bind(ALICE, {"db": thing(name, register_as=name)}, [])
    with pytest.raises(ExhaustedError, match="3"):
        resources.bind(ALICE, {"db": thing("d", register_as="d")}, [])
    resources.bind(ALICE, {"db": thing("a", register_as="a")}, [])


def test_a_request_binds_at_most_a_hundred_resources(resources: Resources) -> None:
    with pytest.raises(InvalidRequestError, match="at most 100"):
        resources.bind(ALICE, {f"r{number}": thing() for number in range(101)}, [])


def test_an_address_registers_a_database_pool_without_credentials(world: World) -> None:
    world.registry.register_database_pool(
        "main", "postgresql://db.example.com/app", credentials_ref="login", max_size=5
    )
    shared = world.registry.get("local", "main")
    config = {"host": "db.example.com", "port": 5432, "database": "app", "max_size": 5}
    assert getattr(shared, "reference", None) == ResourceReference("database", config, "login")
    with pytest.raises(ValueError, match="credentials_ref"):
        world.registry.register_database_pool("other", "postgresql://u:p@db.example.com/app")


@pytest.mark.parametrize(
    ("value", "binding"),
    [
        ("@main", SharedName("main")),
        ({"type": "cache"}, ResourceReference("cache")),
        ({"type": "cache", "config": {"db": 1}, "credentials_ref": "c"}, ResourceReference("cache", {"db": 1}, "c")),
        (SharedName("x"), SharedName("x")),
    ],
)
def test_json_becomes_a_binding(value: object, binding: object) -> None:
    assert binding_from(value) == binding


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("main", ["resources.db"]),
        ("@", ["resources.db"]),
        (7, ["resources.db"]),
        ({"config": [], "typ": "x"}, ["resources.db.config", "resources.db.typ", "resources.db.type"]),
        ({"type": 1, "health_check_interval_s": "1"}, ["resources.db.health_check_interval_s", "resources.db.type"]),
    ],
)
def test_json_that_is_no_binding_is_refused_with_all_paths(value: object, paths: list[str]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        binding_from(value, "resources.db")
    assert sorted(violation.path for violation in caught.value.violations) == paths


def test_canonical_json_keeps_apart_what_json_keeps_apart() -> None:
    assert canonical_json({"b": 1, "a": [1]}) == canonical_json({"a": [1], "b": 1})
    assert len({canonical_json(value) for value in (1, 1.0, True, "1", None)}) == 5
