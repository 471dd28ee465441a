"""The hosts that the guides name, led to real servers on this machine.

Names are looked up by the event loop for asyncpg, redis and aiohttp alike, so a name service that answers the loop is
enough for them. gRPC asks nobody in Python; it takes a proxy from its environment, and that one knows the same names.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOOPBACK = "127.0.0.1"
Address = tuple[str, int]


@dataclass(slots=True)
class NameService:
    """`places` are the ports on this machine behind each host and port; `asked` is what was looked up."""

    places: dict[Address, int] = field(default_factory=dict)
    asked: list[Address] = field(default_factory=list)

    def lead(self, port: int, *addresses: Address) -> None:
        self.places |= dict.fromkeys(addresses, port)

    def find(self, host: str, port: int) -> int:
        """Raises socket.gaierror for what is not in the neighbourhood: nothing leaves this machine."""
        self.asked.append((host, port))
        try:
            return self.places[host, port]
        except KeyError:
            raise socket.gaierror(socket.EAI_NONAME, f"no {host}:{port} in the neighbourhood") from None

    def getaddrinfo(self, host: Any, port: Any) -> list[tuple[int, int, int, str, Address]]:
        """What an event loop answers; addresses are what they are."""
        there = int(port or 0) if host in (None, LOOPBACK) else self.find(str(host), int(port))
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (LOOPBACK, there))]


@contextlib.asynccontextmanager
async def connect_proxy(names: NameService) -> AsyncIterator[int]:
    """An HTTP proxy for CONNECT that goes where the name service says; its port."""
    tunnels: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnels.add(asyncio.create_task(_tunnel(names, (reader, writer))))

    async with await asyncio.start_server(accept, LOOPBACK, 0) as server:
        yield server.sockets[0].getsockname()[1]
        for tunnel in tunnels:
            tunnel.cancel()
        await asyncio.gather(*tunnels, return_exceptions=True)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _tunnel(names: NameService, near: Stream) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_closed, near[1])
        request = (await near[0].readuntil(b"\r\n\r\n")).decode()
        host, _, port = request.split()[1].rpartition(":")
        far = await asyncio.open_connection(LOOPBACK, names.find(host, int(port)))
        stack.push_async_callback(_closed, far[1])
        near[1].write(b"HTTP/1.1 200 OK\r\n\r\n")
        pumps = [asyncio.create_task(_pump(*ends)) for ends in ((near[0], far[1]), (far[0], near[1]))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):  # the other side may have been faster
        await writer.wait_closed()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()


@dataclass(frozen=True, slots=True)
class Received:
    """A request that a site got."""

    host: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(slots=True)
class Site:
    """Every HTTPS host of the neighbourhood. `answers` are JSON, or plain text, by method and path; each of a list is
    given once, and the last one for ever. What nobody wrote an answer for is 404."""

    answers: dict[str, list[Any]] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)

    def answer(self, request: str, *answers: Any) -> None:
        """`answer("GET /orders", {...})`; further ones are for later requests."""
        self.answers.setdefault(request, []).extend(answers)

    async def serve(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.received.append(Received(request.host, request.method, request.path_qs, dict(request.headers), body))
        known = self.answers.get(f"{request.method} {request.path}")
        if known is None:
            return web.json_response({"error": "nothing here"}, status=404)
        answer = known.pop(0) if len(known) > 1 else known[0]
        return web.Response(text=answer) if isinstance(answer, str) else web.json_response(answer)

    @contextlib.asynccontextmanager
    async def open(self, context: ssl.SSLContext) -> AsyncIterator[int]:
        """Its port."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.serve)
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, LOOPBACK, 0, ssl_context=context)
        await site.start()
        yield runner.addresses[0][1]
        await runner.cleanup()


def certified(folder: Path, *hosts: str) -> tuple[Path, ssl.SSLContext]:
    """The certificate of a new authority, and the context of a server that it vouches for under these names."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("The guides' authority", authority_key.public_key())
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    server = _certificate(hosts[0], key.public_key())
    server = server.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
    ca, chain = folder / "ca.pem", folder / "server.pem"
    pem = serialization.Encoding.PEM
    ca.write_bytes(authority.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(key.private_bytes(pem, *plain) + server.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return ca, context


def _certificate(name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "The guides' authority")])
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - datetime.timedelta(minutes=5),
        not_valid_after=now + datetime.timedelta(days=1),
    )
