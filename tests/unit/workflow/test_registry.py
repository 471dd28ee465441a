from __future__ import annotations

import gc
import math
import weakref

import pytest

from torana_server.core.clock import Micros
from torana_server.core.errors import InvalidWorkflowError, WorkflowNotFoundError
from torana_server.workflow import Definition, Step, WorkflowBuilder, WorkflowRegistry
from torana_server.workflow.registry import REVISIONS_KEPT
from unit.workflow.catalog import Catalog


class Clock:
    def __init__(self) -> None:
        self.at = 0

    def now(self) -> Micros:
        self.at += 1
        return Micros(self.at)


@pytest.fixture
def registry() -> WorkflowRegistry:
    return WorkflowRegistry(Catalog(), Clock())


def definition(name: str = "etl", source: str = "x", description: str = "") -> Definition:
    step = Step(name="a", type="code", config={"source": source}, required_resources=("db",))
    return Definition(name=name, steps=(step,), description=description)


def test_the_latest_revision_is_current_and_older_ones_stay(registry: WorkflowRegistry) -> None:
    first = registry.register(definition(source="1"))
    second = registry.register(definition(source="2"))
    assert registry.get("etl") is second
    assert registry.get("etl", first.revision) is first
    assert first.revision != second.revision
    assert (first.create_time, second.create_time) == (1, 2)


def test_a_known_revision_keeps_its_time_and_takes_the_new_notes(registry: WorkflowRegistry) -> None:
    first = registry.register(definition(), metadata={"debug": True})
    again = registry.register(definition(), description="new", metadata={"debug": False})
    assert (again.create_time, again.revision, again.plan) == (first.create_time, first.revision, first.plan)
    assert (registry.get("etl").description, registry.get("etl").metadata) == ("new", {"debug": False})


def test_of_a_workflow_that_changes_for_months_the_latest_revisions_stay_and_the_others_leave_nothing(
    registry: WorkflowRegistry,
) -> None:
    first = registry.register(definition(source="0"))
    plan = weakref.ref(first.plan)
    revisions = [registry.register(definition(source=str(n))).revision for n in range(1, REVISIONS_KEPT + 1)]
    with pytest.raises(WorkflowNotFoundError):
        registry.get("etl", first.revision)
    assert [registry.get("etl", revision).revision for revision in revisions] == revisions
    del first
    gc.collect()
    assert plan() is None


def test_a_revision_that_is_registered_again_is_among_the_latest(registry: WorkflowRegistry) -> None:
    revisions = [registry.register(definition(source=str(n))).revision for n in range(REVISIONS_KEPT)]
    registry.register(definition(source="0"))
    registry.register(definition(source="new"))
    assert registry.get("etl", revisions[0]).revision == revisions[0]
    with pytest.raises(WorkflowNotFoundError):
        registry.get("etl", revisions[1])


def test_a_plan_in_use_is_not_compiled_twice_though_its_workflow_is_gone(registry: WorkflowRegistry) -> None:
    plan = registry.register(definition()).plan
    registry.unregister("etl")
    assert registry.compile(definition()) is plan


def test_a_workflow_that_is_taken_away_leaves_nothing_behind(registry: WorkflowRegistry) -> None:
    revision = registry.register(definition()).revision
    registry.unregister("etl")
    assert registry.all() == []
    for asked in ("", revision):
        with pytest.raises(WorkflowNotFoundError):
            registry.get("etl", asked)
    with pytest.raises(WorkflowNotFoundError):
        registry.unregister("etl")


def test_going_back_to_an_older_revision_makes_it_current(registry: WorkflowRegistry) -> None:
    first = registry.register(definition(source="1"))
    registry.register(definition(source="2"))
    registry.register(definition(source="1"))
    assert registry.get("etl").revision == first.revision


def test_metadata_can_be_changed_and_is_not_part_of_the_revision(registry: WorkflowRegistry) -> None:
    registered = registry.register(definition())
    registered.metadata["debug"] = True
    assert registry.get("etl").metadata == {"debug": True}


def test_a_workflow_is_renamed_to_the_name_it_is_registered_by(registry: WorkflowRegistry) -> None:
    workflow = WorkflowBuilder("inner").add_async_code("a", "pass").build()
    registered = registry.register(workflow, name="outer")
    assert registered.definition.name == registered.plan.definition.name == "outer"
    assert [known.definition.name for known in registry.all()] == ["outer"]


def test_required_resources_are_derived_or_must_cover_every_step(registry: WorkflowRegistry) -> None:
    assert registry.register(definition()).required_resources == ("db",)
    assert registry.register(definition(), required_resources=["cache", "db"]).required_resources == ("cache", "db")
    with pytest.raises(InvalidWorkflowError) as caught:
        registry.register(definition(source="new"), required_resources=["dbs"])
    assert [str(violation) for violation in caught.value.violations] == [
        "steps[0].required_resources[0]: 'db' is not among the required_resources of the workflow (did you mean 'dbs'?)"
    ]
    assert registry.get("etl").definition == definition()


def test_the_description_is_the_operators_or_else_the_definitions(registry: WorkflowRegistry) -> None:
    assert registry.register(definition(description="own")).description == "own"
    assert registry.register(definition(description="own"), description="said").description == "said"


def test_all_workflows_come_sorted_by_name(registry: WorkflowRegistry) -> None:
    for name in ("b", "c", "a"):
        registry.register(definition(name))
    assert [known.definition.name for known in registry.all()] == ["a", "b", "c"]


def test_an_unknown_name_suggests_the_nearest(registry: WorkflowRegistry) -> None:
    registry.register(definition("user_etl"))
    with pytest.raises(WorkflowNotFoundError, match=r"no workflow 'user_elt' \(did you mean 'user_etl'\?\)"):
        registry.get("user_elt")
    with pytest.raises(WorkflowNotFoundError, match=r"has no revision 'abc' among .* its current one is"):
        registry.get("user_etl", "abc")


def test_a_definition_is_compiled_once_for_each_revision(registry: WorkflowRegistry) -> None:
    plan = registry.register(definition()).plan
    assert registry.compile(definition()) is plan
    assert registry.compile(definition(source="recovered")) is registry.compile(definition(source="recovered"))


def test_a_definition_that_is_no_json_is_refused_with_its_path(registry: WorkflowRegistry) -> None:
    faulty = Definition(name="w", steps=(Step(name="a", type="code", config={"x": math.nan, "y": {1, 2}}),))
    with pytest.raises(InvalidWorkflowError, match="not valid"):
        registry.register(faulty)
    assert registry.all() == []
