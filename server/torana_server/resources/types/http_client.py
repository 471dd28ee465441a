"""`http_client`: an aiohttp session bound to a base URL."""

from __future__ import annotations

import base64
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Annotated, Any

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs
from multidict import CIMultiDict, CIMultiDictProxy
from pydantic import AfterValidator, Field
from yarl import URL

from torana_server.core.credentials import ALLOWED_HOSTS
from torana_server.resources.acquisition import Acquisition
from torana_server.resources.borrowers import Borrower, lease_ended
from torana_server.resources.credentials import allowed_hosts, credential_text, credentials_error, hosts_error
from torana_server.resources.redaction import REDACTED
from torana_server.resources.resource_type import ResourceType, TypeConfig

Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _http_address(text: str) -> str:
    url = URL(text)
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("must be an http:// or https:// address with a host")
    if url.query_string or url.fragment:
        raise ValueError("must have no query and no fragment")
    return text


def _host_rule(text: str) -> str:
    _origin(text)
    return text


HttpAddress = Annotated[str, Field(max_length=2_048), AfterValidator(_http_address)]


class HttpClientConfig(TypeConfig):
    base_url: HttpAddress | None = None
    """Requests with a relative path go below it; its own path is kept."""
    timeout: Seconds = 30.0
    """Seconds for a whole request, reading included."""
    connect_timeout: Seconds = 10.0
    """Seconds to connect."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent with every request; credentials belong to the vault."""
    connection_limit: int = Field(default=100, ge=1, le=10_000)
    """Connections open at once."""
    connection_limit_per_host: int = Field(default=0, ge=0, le=10_000)
    """0: only `connection_limit` holds."""
    keepalive_timeout: float = Field(default=15.0, ge=0, le=3_600)
    """Seconds an unused connection stays open."""
    verify_ssl: bool = True
    """Whether the certificate and the host name are checked."""
    proxy: HttpAddress | None = None
    """Address of a proxy for all requests."""
    allowed_hosts: list[Annotated[str, AfterValidator(_host_rule)]] = Field(default_factory=list, max_length=100)
    """Hosts besides that of `base_url` that credentials are sent to: `host` or `host:port`, over https, or a whole
    `http://host:port`."""
    health_path: str | None = Field(default=None, max_length=2_048)
    """Path that health checks ask for; its status must be below 500. Without it any answer of `base_url` will do."""


@dataclass(slots=True, eq=False)
class HttpPool:
    session: aiohttp.ClientSession = field(repr=False)
    config: HttpClientConfig


class HttpClientType(ResourceType[HttpClientConfig, HttpPool]):
    name = "http_client"
    description = "An HTTP client session."
    config_model = HttpClientConfig
    credential_fields = frozenset({"token", "api_key", "header", "username", "password", "headers", ALLOWED_HOSTS})
    plain_credential = "token"

    async def open(self, config: HttpClientConfig, credentials: Mapping[str, object]) -> HttpPool:
        """Connects to nothing: an API that is down fails the requests, not the client."""
        authorization = Authorization(credential_headers(credentials), permitted_origins(config, credentials))
        connector = aiohttp.TCPConnector(
            limit=config.connection_limit,
            limit_per_host=config.connection_limit_per_host,
            keepalive_timeout=config.keepalive_timeout,
            ssl=config.verify_ssl,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            headers=config.headers,
            timeout=aiohttp.ClientTimeout(total=config.timeout, sock_connect=config.connect_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),  # one execution's cookies are none of another's business
            middlewares=(authorization,),
            request_class=Request,
            proxy=config.proxy,
            trust_env=False,
        )
        return HttpPool(session, config)

    async def check(self, pool: HttpPool) -> None:
        config = pool.config
        if config.base_url is None:
            return
        method, path = ("GET", config.health_path) if config.health_path else ("HEAD", "")
        async with pool.session.request(method, joined(config.base_url, path), allow_redirects=False) as response:
            if config.health_path and response.status >= 500:
                raise ConnectionError(f"{config.health_path} answered {response.status}")

    async def close(self, pool: HttpPool) -> None:
        await pool.session.close()

    def describe(self, config: HttpClientConfig) -> str:
        return config.base_url or "any host"

    def stats(self, pool: HttpPool) -> Mapping[str, int]:
        connector = pool.session.connector
        return {"max_size": connector.limit if connector is not None else 0}

    def provider_host(self, config: HttpClientConfig) -> str:
        return (URL(config.base_url).host or "") if config.base_url else ""

    def lend(self, pool: HttpPool, borrower: Borrower) -> HttpClient:
        return HttpClient(pool, borrower)

    async def take_back(self, pool: HttpPool, lent: HttpClient) -> None:
        lent._end()


class HttpClient:
    """What a step gets: the shared session, seen by one attempt.

    `response = await api.get("/x")` and `async with api.get("/x") as response` both work; arguments are those of
    `aiohttp.ClientSession`, whose errors reach the step as they are. Responses not read when the step ends are
    released. No cookies are kept.
    """

    def __init__(self, pool: HttpPool, borrower: Borrower) -> None:
        self._pool = pool
        self._borrower = borrower
        self._responses: weakref.WeakSet[ClientResponse] = weakref.WeakSet()
        self._sockets: weakref.WeakSet[aiohttp.ClientWebSocketResponse[Any]] = weakref.WeakSet()
        self._ended = False

    @property
    def base_url(self) -> str | None:
        return self._pool.config.base_url

    @property
    def headers(self) -> Mapping[str, str]:
        """Those of the config; never credentials."""
        return dict(self._pool.config.headers)

    def request(self, method: str, url: str | URL, **options: Any) -> Acquisition[ClientResponse]:
        """Raises ValueError for a relative URL without `base_url`."""
        target = joined(self.base_url, str(url))
        return Acquisition(lambda: self._send(method, target, options), _released)

    def get(self, url: str | URL, **options: Any) -> Acquisition[ClientResponse]:
        return self.request(hdrs.METH_GET, url, **options)

    def post(self, url: str | URL, **options: Any) -> Acquisition[ClientResponse]:
        return self.request(hdrs.METH_POST, url, **options)

    def put(self, url: str | URL, **options: Any) -> Acquisition[ClientResponse]:
        return self.request(hdrs.METH_PUT, url, **options)

    def patch(self, url: str | URL, **options: Any) -> Acquisition[ClientResponse]:
        return self.request(hdrs.METH_PATCH, url, **options)

    def delete(self, url: str | URL, **options: Any) -> Acquisition[ClientResponse]:
        return self.request(hdrs.METH_DELETE, url, **options)

    def head(self, url: str | URL, **options: Any) -> Acquisition[ClientResponse]:
        options.setdefault("allow_redirects", False)
        return self.request(hdrs.METH_HEAD, url, **options)

    def options(self, url: str | URL, **options: Any) -> Acquisition[ClientResponse]:
        return self.request(hdrs.METH_OPTIONS, url, **options)

    def ws_connect(self, url: str | URL, **options: Any) -> Acquisition[aiohttp.ClientWebSocketResponse[Any]]:
        target = joined(self.base_url, str(url))
        return Acquisition(lambda: self._connect(target, options), _closed)

    def __repr__(self) -> str:
        return f"<HttpClient '{self._borrower.resource}' {self.base_url or 'any host'}>"

    async def _send(self, method: str, url: URL, options: Mapping[str, Any]) -> ClientResponse:
        self._require_lease()
        response = await self._pool.session.request(method, url, **options)
        self._responses.add(response)
        return response

    async def _connect(self, url: URL, options: Mapping[str, Any]) -> aiohttp.ClientWebSocketResponse[Any]:
        self._require_lease()
        socket: aiohttp.ClientWebSocketResponse[Any] = await self._pool.session.ws_connect(url, **options)
        self._sockets.add(socket)
        return socket

    def _require_lease(self) -> None:
        if self._ended:
            raise lease_ended(self._borrower)

    def _end(self) -> None:
        self._ended = True
        for response in tuple(self._responses):
            response.release()
        for socket in tuple(self._sockets):
            socket._response.close()


@dataclass(frozen=True, slots=True)
class Origin:
    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


class Request(ClientRequest):
    """What responses and errors tell of a request leaves its credentials out: drivers' errors print their headers."""

    secret_headers: frozenset[str] = frozenset()

    @property
    def request_info(self) -> aiohttp.RequestInfo:
        told = super().request_info
        headers = CIMultiDict(told.headers)
        for name in self.secret_headers:
            headers[name] = REDACTED
        return aiohttp.RequestInfo(told.url, told.method, CIMultiDictProxy(headers), told.real_url)


class Authorization:
    """Adds the credentials to each request to a permitted origin, redirects included, and to no other."""

    __slots__ = ("_headers", "_origins")

    def __init__(self, headers: Mapping[str, str], origins: Iterable[Origin]) -> None:
        self._headers = headers
        self._origins = frozenset(origins)

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if self._headers and self._permits(request.url):
            for name, value in self._headers.items():
                request.headers.setdefault(name, value)
            if isinstance(request, Request):
                request.secret_headers = frozenset(self._headers)
        return await handler(request)

    def _permits(self, url: URL) -> bool:
        return Origin(_http_scheme(url), url.host or "", url.port) in self._origins


def joined(base_url: str | None, url: str) -> URL:
    """`url` below `base_url`, whose path is kept, or `url` itself when it is absolute."""
    if "://" in url.split("?", 1)[0]:
        return URL(url)
    if base_url is None:
        raise ValueError(f"'{url}' is relative and the resource has no base_url; give a whole address")
    base = base_url.rstrip("/")
    if not url or url.startswith("?"):
        return URL(base_url + url)
    return URL(f"{base}/{url.lstrip('/')}")


def permitted_origins(config: HttpClientConfig, credentials: Mapping[str, object]) -> list[Origin]:
    """Where credentials may go: to the origin of `base_url` and the reference's `allowed_hosts`, which must be among
    those of the secret, if it names any; to these when the reference names none. So must its proxy: it may see all.

    Raises ResourceError (CREDENTIALS_NOT_FOUND).
    """
    named = [_origin(host) for host in config.allowed_hosts]
    if config.base_url is not None:
        named.append(_origin_of(config.base_url))
    bound = _bound_origins(credentials)
    if bound is None:
        if credentials and not named:
            raise credentials_error(
                "nothing says which hosts its credentials may go to; set base_url or allowed_hosts in the reference, "
                "or 'allowed_hosts' in the secret"
            )
        return named
    passed = [] if config.proxy is None else [_origin_of(config.proxy)]
    others = [origin for origin in (*named, *passed) if origin not in bound]
    if others:
        raise hosts_error(map(str, bound), map(str, others))
    return named or bound


def _origin_of(address: str) -> Origin:
    url = URL(address)
    return Origin(url.scheme, url.host or "", url.port)


def _bound_origins(credentials: Mapping[str, object]) -> list[Origin] | None:
    hosts = allowed_hosts(credentials)
    try:
        return None if hosts is None else [_origin(host) for host in hosts]
    except ValueError as error:
        raise credentials_error(f"each of 'allowed_hosts' in the secret {error}") from None


def credential_headers(credentials: Mapping[str, object]) -> dict[str, str]:
    """Headers by which credentials are sent; `headers` of the secret win over the others.

    `header` names the one an `api_key` goes into, and may add a prefix: `X-Api-Key`, `Authorization: Token`.
    """
    headers: dict[str, str] = {}
    if username := credential_text(credentials, "username"):
        login = f"{username}:{credential_text(credentials, 'password')}"
        headers[hdrs.AUTHORIZATION] = "Basic " + base64.b64encode(login.encode()).decode()
    if api_key := credential_text(credentials, "api_key"):
        name, _, prefix = (credential_text(credentials, "header") or "Authorization: Bearer").partition(":")
        headers[name.strip()] = f"{prefix.strip()} {api_key}".strip()
    if token := credential_text(credentials, "token"):
        headers[hdrs.AUTHORIZATION] = f"Bearer {token}"
    headers |= _extra_headers(credentials.get("headers", {}))
    if credentials and not headers:
        raise credentials_error("the secret of an http_client needs token, api_key, username and password, or headers")
    return headers


def _extra_headers(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise credentials_error("'headers' in the secret must be an object of strings")
    return {str(name): credential_text(value, name) for name in value}


def _origin(text: str) -> Origin:
    """`host` and `host:port` mean https, or http on this machine; a whole origin says which."""
    url = URL(text if "://" in text else f"https://{text}")
    if url.scheme not in {"http", "https"} or not url.host or "@" in text or (url.path != "/" or url.query_string):
        raise ValueError("must be host, host:port or http://host:port")
    scheme = "http" if "://" not in text and _is_loopback(url.host) else url.scheme
    return Origin(scheme, url.host, url.explicit_port or (80 if scheme == "http" else 443))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _http_scheme(url: URL) -> str:
    return {"ws": "http", "wss": "https"}.get(url.scheme, url.scheme)


async def _released(response: ClientResponse) -> None:
    response.release()


async def _closed(socket: aiohttp.ClientWebSocketResponse[Any]) -> None:
    await socket.close()
