"""A definition compiled: validated, ordered, ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torana_server.workflow.definition import ERROR_ROUTE, Definition, RetryPolicy, Step
from torana_server.workflow.graph import Edge, edges_of, levels, ordered
from torana_server.workflow.ports import StepCatalog, StepSpec
from torana_server.workflow.revision import normalised, revision_of
from torana_server.workflow.templates import Template, compile_template
from torana_server.workflow.validation import problems, require_valid


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step in its place. `index` is its position in plan order; steps of one `level` do not wait for each other."""

    step: Step
    index: int
    level: int
    retry: RetryPolicy
    inbound: tuple[Edge, ...]
    outbound: tuple[Edge, ...]
    after: tuple[str, ...]
    """Steps its templates read from. They come first but supply nothing by themselves."""
    error_handled: bool
    """Whether an error route leaves it, so that its failure does not fail the execution."""
    config: Template
    inputs: Template

    @property
    def name(self) -> str:
        return self.step.name


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class Plan:
    """`steps` is in plan order. `definition` is as it reads back from storage."""

    definition: Definition
    revision: str
    order: tuple[str, ...]
    steps: Mapping[str, PlannedStep]
    successors: Mapping[str, tuple[str, ...]]
    """For each step those that wait for it, in plan order: by a connection or a template."""
    required_resources: tuple[str, ...]
    """All that its steps require, in the order they are first named."""
    requires: frozenset[str]
    """What a server must have to run it (`StepSpec.requires`)."""


def compile_plan(definition: Definition, catalog: StepCatalog) -> Plan:
    """The plan of a definition. Raises InvalidWorkflowError with everything that is wrong with it."""
    require_valid(definition, problems(definition, catalog))
    definition = normalised(definition)
    specs = {step.name: _spec(step, catalog) for step in definition.steps}
    edges = edges_of(definition)
    templates = {step.name: _templates(step, specs[step.name]) for step in definition.steps}
    after = {name: tuple(dict.fromkeys((*config.steps, *inputs.steps))) for name, (config, inputs) in templates.items()}
    inbound, outbound = _by_step(edges, specs)
    sources = {name: [*(edge.source for edge in inbound[name]), *after[name]] for name in specs}
    order = ordered(list(specs), sources)
    level = levels(order, sources)
    steps = {step.name: step for step in definition.steps}
    planned = {
        name: PlannedStep(
            step=steps[name],
            index=index,
            level=level[name],
            retry=steps[name].retry or definition.retry,
            inbound=inbound[name],
            outbound=outbound[name],
            after=after[name],
            error_handled=any(edge.route == ERROR_ROUTE for edge in outbound[name]),
            config=templates[name][0],
            inputs=templates[name][1],
        )
        for index, name in enumerate(order)
    }
    return Plan(
        definition=definition,
        revision=revision_of(definition),
        order=order,
        steps=planned,
        successors=_successors(order, sources),
        required_resources=tuple(dict.fromkeys(name for step in definition.steps for name in step.required_resources)),
        requires=frozenset().union(*(specs[step.name].requires(step.config) for step in definition.steps)),
    )


def _spec(step: Step, catalog: StepCatalog) -> StepSpec:
    spec = catalog.get(step.type)
    assert spec is not None, "validation has looked every type up"
    return spec


def _templates(step: Step, spec: StepSpec) -> tuple[Template, Template]:
    config, _ = compile_template(step.config, "", spec.literal_fields)
    inputs, _ = compile_template(step.inputs, "")
    return config, inputs


def _successors(order: tuple[str, ...], sources: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    successors: dict[str, list[str]] = {name: [] for name in order}
    for name in order:
        for source in dict.fromkeys(sources[name]):
            successors[source].append(name)
    return {name: tuple(targets) for name, targets in successors.items()}


_Edges = dict[str, tuple[Edge, ...]]


def _by_step(edges: tuple[Edge, ...], names: Mapping[str, object]) -> tuple[_Edges, _Edges]:
    inbound: dict[str, list[Edge]] = {name: [] for name in names}
    outbound: dict[str, list[Edge]] = {name: [] for name in names}
    for edge in edges:
        inbound[edge.target].append(edge)
        outbound[edge.source].append(edge)
    return {n: tuple(e) for n, e in inbound.items()}, {n: tuple(e) for n, e in outbound.items()}
