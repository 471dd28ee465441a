"""`python -m benchmarks [FIGURE …]`: one JSON line per figure."""

from __future__ import annotations

import json
from typing import Annotated

import typer
import uvloop

from benchmarks.figures import FIGURES


def run(
    figures: Annotated[list[str] | None, typer.Argument(help=f"Any of: {', '.join(FIGURES)}. None: all.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long each load lasts.")] = 5.0,
) -> None:
    """Measures Torana beside a bare grpc.aio server, in one run on one machine."""
    unknown = set(figures or ()) - FIGURES.keys()
    if unknown:
        raise typer.BadParameter(f"no such figure: {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    uvloop.run(_run(figures or list(FIGURES), seconds))


async def _run(names: list[str], seconds: float) -> None:
    for name in names:
        async for figure in FIGURES[name](seconds):
            row = {
                "figure": figure.figure,
                "value": round(figure.value, 3),
                "unit": figure.unit,
                "bar": None if figure.bar is None else round(figure.bar, 3),
                "met": figure.met,
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    typer.run(run)
