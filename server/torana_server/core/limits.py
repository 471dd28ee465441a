"""The bounds every part agrees on. What an operator may change is in `settings.py` instead."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

EVENT_BYTES_MAX: Final = 512 * KIB
"""A serialised event. A larger one fails its step."""
INLINE_VALUE_BYTES_MAX: Final = 256 * KIB
"""A value kept inside its event. A larger one fails its step with VALUE_TOO_LARGE until a blob store exists."""
BATCH_EVENTS_MAX: Final = 64
"""Events in one EventBatch."""
BATCH_BYTES_MAX: Final = 1 * MIB
"""Event bytes in one EventBatch."""
EVENTS_PER_EXECUTION_MAX: Final = 100_000
STEPS_PER_WORKFLOW_MAX: Final = 1_000
CONNECTIONS_PER_WORKFLOW_MAX: Final = 10_000
DEFINITION_BYTES_MAX: Final = 1 * MIB
VALUE_DEPTH_MAX: Final = 100
"""Nesting of arrays and objects in any value: parameters, context, config, outputs."""
INTEGER_DIGITS_MAX: Final = 1_000
LABELS_MAX: Final = 64
LABEL_VALUE_CHARS_MAX: Final = 256
RESOURCES_PER_REQUEST_MAX: Final = 100
IDEMPOTENCY_KEY_CHARS_MAX: Final = 256
SECRET_BYTES_MAX: Final = 64 * KIB
PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1_000
