"""`compose`: puts a value together from templates."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from torana_server.steps.context import StepContext
from torana_server.steps.registry import StepConfig, StepType


class ComposeConfig(StepConfig):
    value: Any = Field(description="The output, with templates anywhere in it")


class ComposeStep(StepType[ComposeConfig]):
    """Its output is its `value`, templates rendered: `{"value": {"id": "{{load.id}}", "by": "${context.user}"}}`."""

    name = "compose"
    description = "Puts a value together from templates"
    Config = ComposeConfig

    async def run(self, ctx: StepContext, config: ComposeConfig, inputs: dict[str, object]) -> object:
        return config.value
