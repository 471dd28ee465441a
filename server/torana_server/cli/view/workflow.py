"""A workflow for people: its graph, its steps and what they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from torana_server.cli.view.graph import Arrow, graph_lines
from torana_server.cli.view.listing import Head, Listing, names_cell, text_cell
from torana_server.cli.view.text import one_line, plural
from torana_server.core.errors import Violation
from torana_server.workflow import Definition, Edge, Plan, PlannedStep, RetryPolicy, StepSpec, StepTimeout, compile_plan

TEMPLATE_LABEL = "template"


@dataclass(frozen=True, slots=True)
class _AnyType:
    """Stands for a step type that only the server knows: nothing is checked here."""

    name: str
    routes_taken: frozenset[str]
    literal_fields: frozenset[str] = frozenset({"source"})

    def problems(self, config: Mapping[str, object]) -> Sequence[Violation]:
        return ()

    def routes(self, config: Mapping[str, object]) -> frozenset[str]:
        return self.routes_taken

    def requires(self, config: Mapping[str, object]) -> frozenset[str]:
        return frozenset()


@dataclass(frozen=True, slots=True)
class _AnyTypes:
    routes_taken: frozenset[str]

    def get(self, type_name: str) -> StepSpec | None:
        return _AnyType(type_name, self.routes_taken)

    def names(self) -> Sequence[str]:
        return ()


def plan_to_draw(definition: Definition) -> Plan:
    """The plan of a definition that a server has accepted, whatever types its steps have."""
    return compile_plan(definition, _AnyTypes(frozenset(one.route for one in definition.connections)))


def workflow_graph(plan: Plan, *, width: int, unicode: bool) -> list[Text]:
    """Boxes in the layers of the plan; a list of edges when they do not fit into `width`."""
    layers = {name: plan.steps[name].level for name in plan.order}
    return graph_lines(layers, _arrows(plan), width=width, unicode=unicode) or list(_edge_lines(plan, unicode=unicode))


def _arrows(plan: Plan) -> Iterator[Arrow]:
    """One for each pair of steps; what connections call a route is its label."""
    for name in plan.order:
        step = plan.steps[name]
        sources = dict.fromkeys([*(edge.source for edge in step.inbound), *step.after])
        for source in sources:
            routes = [edge.route for edge in step.inbound if edge.source == source]
            yield Arrow(source, name, tuple(dict.fromkeys(route for route in routes if route)))


def _edge_lines(plan: Plan, *, unicode: bool) -> Iterator[Text]:
    dot, branch, last, arrow = ("●", "├─", "└─", "▶") if unicode else ("*", "|-", "`-", ">")
    line = branch[1]
    for name in plan.order:
        step = plan.steps[name]
        yield Text.assemble((f"{step.level + 1:>3}  ", "dim"), f"{dot} ", (name, "bold"))
        targets = [(target, _routes(plan.steps[target], name)) for target in plan.successors[name]]
        for place, (target, routes) in enumerate(targets, start=1):
            label = f" {', '.join(routes)} {line}" if routes else line
            yield Text.assemble(f"     {last if place == len(targets) else branch}{label}{arrow} ", target)


def _routes(target: PlannedStep, source: str) -> list[str]:
    return list(dict.fromkeys(edge.route for edge in target.inbound if edge.source == source and edge.route))


# what stands around the graph


def workflow_heading(plan: Plan) -> list[Text]:
    definition = plan.definition
    layers = max((step.level for step in plan.steps.values()), default=-1) + 1
    counts = f"{plural(len(plan.order), 'step')} in {plural(layers, 'layer')}"
    lines = [Text.assemble((definition.name, "bold"), f"  {counts}", (f"  revision {plan.revision[:12]}", "dim"))]
    lines += [Text(one_line(line)) for line in definition.description.splitlines()]
    facts = {
        "resources": ", ".join(plan.required_resources),
        "timeout": "" if definition.timeout_s is None else _seconds(definition.timeout_s),
        "retry": retry_text(definition.retry),
        "durability": "" if definition.durability == "every_step" else definition.durability.replace("_", " "),
        "labels": ", ".join(f"{key}={value}" for key, value in definition.labels.items()),
    }
    return lines + [Text.assemble((f"{name:<11}", "dim"), one_line(text)) for name, text in facts.items() if text]


def steps_listing(plan: Plan) -> Listing:
    """In plan order. `after` names what a step waits for, with the route that leads to it. The retry and the timeout
    are the step's own, and empty where they are those of the workflow and of every step."""
    heads = Head("layer", right=True), Head("step"), Head("type"), Head("after", gives_way=True)
    return Listing(
        heads=(*heads, Head("resources", gives_way=True), Head("retry", gives_way=True), Head("timeout", right=True)),
        rows=[
            (
                text_cell(step.level + 1, "dim"),
                text_cell(step.name),
                text_cell(step.step.type),
                names_cell(_after(step)),
                names_cell(step.step.required_resources),
                text_cell(retry_text(step.step.retry) if step.step.retry else ""),
                text_cell(timeout_text(step)),
            )
            for step in (plan.steps[name] for name in plan.order)
        ],
    )


def _after(step: PlannedStep) -> list[str]:
    edges = [_edge_text(edge) for edge in step.inbound]
    sources = {edge.source for edge in step.inbound}
    return list(dict.fromkeys([*edges, *(f"{name} ({TEMPLATE_LABEL})" for name in step.after if name not in sources)]))


def _edge_text(edge: Edge) -> str:
    return f"{edge.source}:{edge.route}" if edge.route else edge.source


def retry_text(retry: RetryPolicy) -> str:
    """ "3 tries, 1s x2 up to 60s"; empty for a single try."""
    if retry.max_attempts <= 1:
        return ""
    first, longest = _seconds(retry.initial_interval_s), _seconds(retry.max_interval_s)
    return f"{retry.max_attempts} tries, {first} x{retry.backoff:g} up to {longest}"


def timeout_text(step: PlannedStep) -> str:
    """One attempt, and all of them where that is limited."""
    timeout = step.step.timeout
    if timeout == StepTimeout():
        return ""
    total = "" if timeout.total_s is None else f" ({_seconds(timeout.total_s)} in all)"
    return f"{_seconds(timeout.attempt_s)}{total}"


def _seconds(value: float) -> str:
    if value >= 120 and value % 60 == 0:
        return f"{value / 60:g}m"
    return f"{value:g}s"
