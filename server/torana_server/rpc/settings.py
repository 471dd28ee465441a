"""What an operator can set about the gRPC face. Read from the environment elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torana_server.core.errors import InvalidRequestError, Violation
from torana_server.core.limits import KIB, MIB

HEARTBEAT_S_MIN: Final = 1.0
HEARTBEAT_S_MAX: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcSettings:
    """Raises InvalidRequestError, with everything out of bounds, at construction."""

    address: str = "127.0.0.1:7233"
    """`host:port` or `unix:PATH`. Port 0 takes a free one. What others can reach needs TLS or `allow_insecure`."""
    tls_cert: Path | None = None
    """Certificate chain (PEM). With `tls_key`: the server speaks TLS only."""
    tls_key: Path | None = None
    """Private key (PEM)."""
    tls_client_ca: Path | None = None
    """CA that clients' certificates must come from (PEM). Unset: clients need none."""
    allow_insecure: bool = False
    """Listen without TLS on an address that other machines can reach."""
    port_shared: bool = False
    """Other processes may listen on the same port; connections are shared out among them."""
    reflection: bool = True
    """Offer server reflection, v1 and v1alpha."""
    access_log: bool = True
    """Log a line for every call, not only for those that fail."""

    message_bytes_max: int = 4 * MIB
    """Largest message received or sent. 64 KiB to 64 MiB."""
    metadata_bytes_max: int = 16 * KIB
    """Metadata of one call above which it always fails; from half of it, it may. 8 KiB to 64 KiB."""
    streams_max: int = 5_000
    """Streams of events open at once, over all connections. 1 to 100,000."""
    calls_per_connection_max: int = 1_000
    """Calls, streams included, open at once on one connection; more wait in the client. 1 to 100,000."""
    stream_age_s_max: float = 900.0
    """After this long a stream of events ends and the client resumes it. 1 s to a day."""
    heartbeat_interval_s: float = 15.0
    """How often a quiet stream says that it lives, unless the client asks otherwise. 1 s to 60 s."""
    unary_timeout_s: float = 60.0
    """What a call that is no stream may take, even with a later deadline or none. 1 s to 600 s."""
    keepalive_interval_s: float = 60.0
    """How often a quiet connection is probed. 10 s to 3,600 s."""
    keepalive_timeout_s: float = 20.0
    """How long the answer to a probe may take. 1 s to 600 s."""
    client_ping_interval_s_min: float = 10.0
    """Clients that probe more often than this are disconnected. 1 s to 600 s."""
    connection_age_s_max: float = 1_800.0
    """A connection is wound up after this long, give or take a tenth; its streams run to their own end. 60 s to a
    day."""
    connection_idle_s_max: float = 900.0
    """A connection without calls is closed after this long. 10 s to a day."""
    handshake_timeout_s: float = 20.0
    """What setting up a connection, TLS included, may take. 1 s to 120 s."""

    def __post_init__(self) -> None:
        violations = [
            Violation(name, f"between {low:,g} and {high:,g}, not {getattr(self, name):,g}")
            for name, (low, high) in _BOUNDS.items()
            if not low <= getattr(self, name) <= high
        ]
        if (self.tls_cert is None) != (self.tls_key is None):
            violations.append(Violation("tls_cert", "`tls_cert` and `tls_key` belong together; give both or neither"))
        if self.tls_client_ca is not None and self.tls_cert is None:
            violations.append(Violation("tls_client_ca", "needs `tls_cert` and `tls_key`"))
        if violations:
            raise InvalidRequestError("the settings of the gRPC face are not valid", violations=violations)

    @property
    def is_tcp(self) -> bool:
        return not self.address.startswith(("unix:", "unix-abstract:"))

    @property
    def page_bytes_max(self) -> int:
        """What the rows of one page of a list may take."""
        return self.message_bytes_max * 9 // 10

    def channel_options(self) -> list[tuple[str, int]]:
        """gRPC's own options. A second server on the same port is refused unless both were told to share it."""
        return [
            ("grpc.so_reuseport", int(self.port_shared)),
            ("grpc.max_receive_message_length", self.message_bytes_max),
            ("grpc.max_send_message_length", self.message_bytes_max),
            ("grpc.max_metadata_size", self.metadata_bytes_max // 2),
            ("grpc.absolute_max_metadata_size", self.metadata_bytes_max),
            ("grpc.max_concurrent_streams", self.calls_per_connection_max),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_interval_s)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_timeout_s)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _ms(self.client_ping_interval_s_min)),
            ("grpc.max_connection_age_ms", _ms(self.connection_age_s_max)),
            # Streams end by themselves within their own age, so that no client ever sees one cut.
            ("grpc.max_connection_age_grace_ms", _ms(self.stream_age_s_max + self.unary_timeout_s)),
            ("grpc.max_connection_idle_ms", _ms(self.connection_idle_s_max)),
            ("grpc.server_handshake_timeout_ms", _ms(self.handshake_timeout_s)),
        ]


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)


_DAY_S: Final = 86_400

_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "message_bytes_max": (64 * KIB, 64 * MIB),
    "metadata_bytes_max": (8 * KIB, 64 * KIB),
    "streams_max": (1, 100_000),
    "calls_per_connection_max": (1, 100_000),
    "stream_age_s_max": (1, _DAY_S),
    "heartbeat_interval_s": (HEARTBEAT_S_MIN, HEARTBEAT_S_MAX),
    "unary_timeout_s": (1, 600),
    "keepalive_interval_s": (10, 3_600),
    "keepalive_timeout_s": (1, 600),
    "client_ping_interval_s_min": (1, 600),
    "connection_age_s_max": (60, _DAY_S),
    "connection_idle_s_max": (10, _DAY_S),
    "handshake_timeout_s": (1, 120),
}
