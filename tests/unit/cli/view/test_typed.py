"""Types that JSON lacks, told beside the values."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from torana_server.cli.view import value_json, with_types


def test_every_value_that_is_no_json_is_named_by_its_pointer() -> None:
    members = {
        "at": datetime(2026, 1, 15, tzinfo=UTC),
        "rows": [{"a/b": Decimal("1.50")}, {"day~": date(2026, 1, 15)}],
        "wait": timedelta(seconds=1.5),
        "id": UUID(int=1),
        "raw": b"\xff",
        "pair": (1, Decimal(2)),
        "n": 2**64 + 1,
    }
    line = json.loads(value_json(with_types(members)))
    assert line["types"] == {
        "/at": "datetime",
        "/rows/0/a~1b": "decimal",
        "/rows/1/day~0": "date",
        "/wait": "timedelta",
        "/id": "uuid",
        "/raw": "bytes",
        "/pair": "tuple",
        "/pair/1": "decimal",
    }
    assert line["n"] == 2**64 + 1


def test_plain_json_has_no_types() -> None:
    assert with_types({"a": [1, "x", None, {"b": True}]}) == {"a": [1, "x", None, {"b": True}]}
