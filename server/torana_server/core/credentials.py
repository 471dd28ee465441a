"""What a secret may say about itself."""

from __future__ import annotations

from typing import Final

ALLOWED_HOSTS: Final = "allowed_hosts"
"""Reserved key of a secret: the hosts its credentials may go to, as a list of texts. No credential itself."""
