"""An image registry (v2 API) of values, for what a real one cannot be made to do: manifest lists, tokens,
wrong digests, limits, silence, nonsense. Engines can pull its images.

`FakeRegistry.answer` is the registry as a function; `serve` puts it on a loopback port; `transport` lets a
client of httpx talk to it without sockets (and so under a mock clock).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import busyboximages
import h11
import httpx
import msgspec
import trio

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class FakeImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image of one platform. `layers`: tars; `claimed_layer_bytes` instead of what they measure."""

    architecture: str = "amd64"
    os: str = "linux"
    layers: Sequence[bytes] = (b"layer",)
    claimed_layer_bytes: Sequence[int] | None = None
    cmd: Sequence[str] = ("sleep", "100000")
    entrypoint: Sequence[str] = (busyboximages.PATIENT,)


def busybox_image(marker: str = "", *, architecture: str = "amd64", **more: Any) -> FakeImage:
    """One that runs: busybox in the first layer, `marker` (as /marker) in a second."""
    layers = [busyboximages.root_tar(), busyboximages.layer_tar({"/marker": marker})]
    return FakeImage(architecture=architecture, layers=layers, **more)


class Asked(msgspec.Struct, frozen=True):
    """A request that came: path with its query, headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


class Answer(msgspec.Struct, frozen=True):
    """What goes back."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


class FakeRegistry:
    """What it holds and how it misbehaves (attributes; change them at any time)."""

    def __init__(self, address: str = "127.0.0.78:5000", *, scheme: str = "http") -> None:
        self.address = address
        self.origin = f"{scheme}://{address}"
        self.asked: list[Asked] = []
        # Who may come in.
        self.basic: tuple[str, str] | None = None
        """Name and password wanted with every request."""
        self.token_auth = False
        """True: a bearer token is wanted, which `/token` gives to everybody or to `token_user`."""
        self.token_user: tuple[str, str] | None = None
        self.token_lifetime_s: int | None = 300
        self.token_field = "token"
        """Some registries say `access_token`."""
        self.realm: str | None = None
        """Another place that gives tokens."""
        # How it misbehaves.
        self.status: int | None = None
        """Answered to everything."""
        self.statuses: dict[str, int] = {}
        """Answered where the path contains the key."""
        self.silent = False
        """Takes requests and never answers."""
        self.delay_s = 0.0
        self.bodies: dict[str, bytes] = {}
        """Sent instead of the right body where the path contains the key."""
        self.digest_header: str | None = None
        """Docker-Content-Digest of manifests: another one, or "" for none."""
        self.redirect_blobs_to: str | None = None
        """Blobs are answered with a redirect to the same path there."""
        self.endless = False
        """Manifests never stop."""
        self.extra_headers: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        """Tokens given out, with their scope; empty it to make them invalid."""
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[tuple[str, str], tuple[str, bytes]] = {}

    # --- content

    def add(self, name: str, *images: FakeImage, oci: bool = False, index: bool | None = None) -> str:
        """Holds `repository:tag` from now on; the digest that a pull sees.

        Several images (or index=True) become a list of manifests by architecture.
        """
        repository, _, tag = name.rpartition(":")
        entries = [self._add_image(repository, image, oci) for image in images]
        if len(entries) == 1 and not index:
            digest: str = entries[0]["digest"]
            self._manifests[repository, tag] = self._manifests[repository, digest]
            return digest
        kind = OCI_INDEX if oci else DOCKER_INDEX
        return self.add_document(name, {"schemaVersion": 2, "mediaType": kind, "manifests": entries})

    def add_document(self, name: str, document: dict[str, Any] | bytes, media_type: str = "") -> str:
        """Holds this manifest under `repository:tag`, whatever it says."""
        repository, _, tag = name.rpartition(":")
        content = document if isinstance(document, bytes) else msgspec.json.encode(document)
        kind = media_type or (document.get("mediaType", "") if isinstance(document, dict) else DOCKER_INDEX)
        digest = digest_of(content)
        self._manifests[repository, tag] = self._manifests[repository, digest] = (kind, content)
        return digest

    def _add_image(self, repository: str, image: FakeImage, oci: bool) -> dict[str, Any]:
        packed = [gzip.compress(layer, mtime=0) for layer in image.layers]
        claimed = image.claimed_layer_bytes or [len(layer) for layer in packed]
        config = msgspec.json.encode(
            {
                "architecture": image.architecture,
                "os": image.os,
                "config": {"Cmd": list(image.cmd), "Entrypoint": list(image.entrypoint)},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in image.layers]},
            }
        )
        for blob in (config, *packed):
            self._blobs[digest_of(blob)] = blob
        kind = OCI_MANIFEST if oci else DOCKER_MANIFEST
        layers = [
            {"mediaType": OCI_LAYER if oci else LAYER, "size": size, "digest": digest_of(layer)}
            for layer, size in zip(packed, claimed, strict=True)
        ]
        config_kind = OCI_CONFIG if oci else CONFIG
        content = msgspec.json.encode(
            {
                "schemaVersion": 2,
                "mediaType": kind,
                "config": {"mediaType": config_kind, "size": len(config), "digest": digest_of(config)},
                "layers": layers,
            }
        )
        digest = digest_of(content)
        self._manifests[repository, digest] = (kind, content)
        platform = {"architecture": image.architecture, "os": image.os}
        return {"mediaType": kind, "size": len(content), "digest": digest, "platform": platform}

    # --- what was asked

    def paths(self, *methods: str) -> list[str]:
        """`METHOD /path` of all requests, or of these methods."""
        return [f"{row.method} {row.path}" for row in self.asked if not methods or row.method in methods]

    # --- the registry as a function

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        path = urlsplit(asked.path).path
        for part, status in self.statuses.items():
            if part in path:
                return self._error(status)
        if self.status is not None:
            return self._error(self.status)
        if path == "/token":
            return self._token(asked)
        refusal = self._refusal(asked, path)
        if refusal is not None:
            return refusal
        made = self._content(asked, path)
        for part, body in self.bodies.items():
            if part in path:
                return Answer(made.status, made.headers, body)
        return made

    def _content(self, asked: Asked, path: str) -> Answer:
        if path == "/v2/":
            return Answer(200, {"content-type": "application/json"}, b"{}")
        repository, _, reference = path.removeprefix("/v2/").rpartition("/manifests/")
        if repository:
            return self._manifest(asked, repository, unquote(reference))
        _, _, digest = path.rpartition("/blobs/")
        blob = self._blobs.get(unquote(digest))
        if blob is None:
            return self._error(404, "BLOB_UNKNOWN")
        if self.redirect_blobs_to is not None:
            return Answer(307, {"location": f"{self.redirect_blobs_to}{path}"})
        return Answer(200, {"content-type": "application/octet-stream"}, blob)

    def _manifest(self, asked: Asked, repository: str, reference: str) -> Answer:
        found = self._manifests.get((repository, reference))
        if found is None:
            return self._error(404, "MANIFEST_UNKNOWN")
        kind, content = found
        if kind not in asked.headers.get("accept", "") and "*/*" not in asked.headers.get("accept", ""):
            return self._error(404, "MANIFEST_UNKNOWN", "the accept header does not name what there is")
        headers = {"content-type": kind, **self.extra_headers}
        digest = digest_of(content) if self.digest_header is None else self.digest_header
        if digest:
            headers["docker-content-digest"] = digest
        return Answer(200, headers, content)

    def _refusal(self, asked: Asked, path: str) -> Answer | None:
        said = asked.headers.get("authorization", "")
        if self.basic is not None:
            if said == _basic(self.basic):
                return None
            return self._error(401, "UNAUTHORIZED", headers={"www-authenticate": 'Basic realm="test"'})
        if not self.token_auth or said.removeprefix("Bearer ") in self.tokens:
            return None
        repository = path.removeprefix("/v2/").split("/manifests/")[0].split("/blobs/")[0]
        realm = self.realm or f"{self.origin}/token"
        scope = f',scope="repository:{repository}:pull"' if repository else ""
        wanted = f'Bearer realm="{realm}",service="test, registry"{scope}'
        return self._error(401, "UNAUTHORIZED", headers={"www-authenticate": wanted})

    def _token(self, asked: Asked) -> Answer:
        said = asked.headers.get("authorization")
        if self.token_user is not None and said != _basic(self.token_user):
            return self._error(401, "UNAUTHORIZED")
        scope = parse_qs(urlsplit(asked.path).query).get("scope", [""])[0]
        token = f"token-{len(self.tokens) + 1}"
        self.tokens[token] = scope
        said_back: dict[str, Any] = {self.token_field: token}
        if self.token_lifetime_s is not None:
            said_back["expires_in"] = self.token_lifetime_s
        return Answer(200, {"content-type": "application/json"}, msgspec.json.encode(said_back))

    def _error(
        self, status: int, code: str = "FAULT", message: str = "", headers: Mapping[str, str] | None = None
    ) -> Answer:
        body = msgspec.json.encode({"errors": [{"code": code, "message": message}]})
        return Answer(status, {"content-type": "application/json", **(headers or {})}, body)

    # --- the registry on a port

    async def serve(self, listener: trio.SocketListener, tls: ssl.SSLContext | None) -> None:
        """Answers until cancelled."""
        if tls is None:
            await trio.serve_listeners(self._connection, [listener])
        else:
            await trio.serve_listeners(
                self._connection, [trio.SSLListener(listener, tls, https_compatible=True)]
            )

    async def _connection(self, stream: trio.abc.Stream) -> None:
        # The client went away, or is none.
        with suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
            await self._requests(stream)

    async def _requests(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65_536)))
            elif isinstance(event, h11.Request):
                headers: dict[str, str] = {}
                for name, value in event.headers:
                    # An engine says each type that it accepts in a line of its own.
                    said = headers.get(name.decode())
                    headers[name.decode()] = value.decode() if said is None else f"{said}, {value.decode()}"
                await self._respond(
                    stream, connection, Asked(event.method.decode(), event.target.decode(), headers)
                )
            elif event is h11.PAUSED:
                connection.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed) or connection.their_state is h11.MUST_CLOSE:
                return

    async def _respond(self, stream: trio.abc.Stream, connection: h11.Connection, asked: Asked) -> None:
        if self.silent:
            self.asked.append(asked)
            await trio.sleep_forever()
        await trio.sleep(self.delay_s)
        answer = self.answer(asked)
        endless = self.endless and "/manifests/" in asked.path and asked.method == "GET"
        length = 10**12 if endless else len(answer.body)
        headers = [*answer.headers.items(), ("content-length", str(length))]
        start = h11.Response(status_code=answer.status, headers=headers)
        await stream.send_all(connection.send(start) or b"")
        if asked.method != "HEAD" and not endless:
            await stream.send_all(connection.send(h11.Data(data=answer.body)) or b"")
        while endless:
            await stream.send_all(b" " * 65_536)
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")

    # --- the registry without sockets

    def transport(self) -> httpx.AsyncBaseTransport:
        """For httpx.AsyncClient(transport=...): every host name leads here."""
        return _Transport(self)


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, registry: FakeRegistry) -> None:
        self._registry = registry

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        asked = Asked(request.method, path, {name.lower(): value for name, value in request.headers.items()})
        if self._registry.silent:
            self._registry.asked.append(asked)
            await trio.sleep_forever()
        await trio.sleep(self._registry.delay_s)
        answer = self._registry.answer(asked)
        body = b"" if request.method == "HEAD" else answer.body
        return httpx.Response(answer.status, headers=dict(answer.headers), stream=httpx.ByteStream(body))


@asynccontextmanager
async def fake_registry(
    host: str = "127.0.0.78", port: int | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FakeRegistry]:
    """A registry on a free loopback port for the length of a block."""
    scheme = "http" if tls is None else "https"
    (listener,) = await trio.open_tcp_listeners(port or 0, host=host)
    registry = FakeRegistry(f"{host}:{listener.socket.getsockname()[1]}", scheme=scheme)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.serve, listener, tls)
        yield registry
        nursery.cancel_scope.cancel()


def _basic(user: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(user).encode()).decode()
