"""A library's loans: input is judged by a plain function before anything is asked of the database."""

from __future__ import annotations

import re
from datetime import date, timedelta

from torana_server import Gateway, WorkflowBuilder

CARD = re.compile(r"[A-Z]{2}\d{4}")
DAYS_MAX = 28

LEND = """
shelves = await get_resource("shelves")
async with shelves.transaction() as connection:
    book = await connection.fetchval("SELECT id FROM books WHERE title = $1 AND NOT lent FOR UPDATE", title)
    if book is None:
        raise LookupError(f"no copy of {title!r} is on the shelf")
    await connection.execute("UPDATE books SET lent = true WHERE id = $1", book)
    await connection.execute("INSERT INTO loans (book, card, due, note) VALUES ($1, $2, $3, $4)", book, card, due, note)
return {"book": book, "due": due}
"""


def judge(card: str, title: str, days: int, today: date, note: str = "") -> dict[str, object]:
    """The loan as it may be written. Raises TypeError or ValueError that says which input to change, and how."""
    if not isinstance(card, str) or not CARD.fullmatch(card):
        raise ValueError(f"card must be two capitals and four digits, such as AB1234, not {card!r}")
    if isinstance(days, bool) or not isinstance(days, int):
        raise TypeError(f"days must be a whole number, not {days!r}")
    if not 1 <= days <= DAYS_MAX:
        raise ValueError(f"days must be from 1 to {DAYS_MAX}, not {days}")
    return {"card": card, "title": title, "due": today + timedelta(days=days), "note": note}


def register(gateway: Gateway) -> None:
    workflow = (
        WorkflowBuilder("lend_book")
        .add_step("judge", judge)
        .add_async_code("lend", LEND, required_resources=["shelves"])
        .add_connection("judge", "lend")
        .build()
    )
    gateway.register_workflow("lend_book", workflow)
