"""The client of image registries: documents, digests, tokens, redirects, limits; nothing is given away."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import fakeregistry
import httpx
import msgspec
import pytest
import trio
import trio.testing
from fakeregistry import OCI_INDEX, OCI_MANIFEST, FakeImage, FakeRegistry

from trionode.containers.engine import Credentials
from trionode.containers.images import documents
from trionode.containers.images.http import HttpImageRegistry, open_image_registry
from trionode.containers.images.login import read_token
from trionode.containers.images.names import parse_name
from trionode.containers.images.registry import ImageError, ImageFault

pytestmark = pytest.mark.trio

HERE = "registry.example"
NAME = f"{HERE}/owner/app:v1"
ANNA = Credentials("anna", "word of anna")
HEAD, TAGGED = "HEAD /v2/owner/app/manifests/v1", "GET /v2/owner/app/manifests/v1"


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry(HERE, scheme="https")


@pytest.fixture
async def client(registry: FakeRegistry) -> AsyncIterator[HttpImageRegistry]:
    transport = registry.transport()
    async with open_image_registry(max_image_bytes=5_000, token_margin_s=900.0, transport=transport) as made:
        yield made


async def fault_of(client: HttpImageRegistry, name: str = NAME, **more: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        await client.verify(name, **more)
    return caught.value


# --- documents


@pytest.mark.parametrize("oci", [False, True])
async def test_documents_of_docker_and_of_oci(
    client: HttpImageRegistry, registry: FakeRegistry, oci: bool
) -> None:
    digest = registry.add(
        "owner/app:v1", FakeImage(layers=[b"a", b"b"], claimed_layer_bytes=[30, 12]), oci=oci
    )
    manifest = await client.verify(NAME, "amd64")
    assert manifest == type(manifest)(digest, 42, ("amd64",))
    assert registry.paths()[0] == TAGGED
    assert len(registry.asked) == 2, "the manifest and the configuration"


async def test_only_images_that_nodes_could_run_are_looked_at(
    client: HttpImageRegistry, registry: FakeRegistry
) -> None:
    registry.add(
        "owner/app:v1",
        FakeImage(architecture="amd64", claimed_layer_bytes=[10]),
        FakeImage(architecture="arm64", claimed_layer_bytes=[20]),
        FakeImage(architecture="s390x", claimed_layer_bytes=[10**9]),
        FakeImage(architecture="amd64", os="windows", claimed_layer_bytes=[10**9]),
        FakeImage(architecture="unknown", os="unknown", claimed_layer_bytes=[10**9]),
    )
    assert (await client.verify(NAME, "amd64")).size_bytes == 10
    assert (await client.verify(NAME)).size_bytes == 20
    assert len(registry.asked) == 6, "the list and two manifests, twice"


async def test_one_architecture_that_is_too_large_is_too_much(
    client: HttpImageRegistry, registry: FakeRegistry
) -> None:
    large = FakeImage(architecture="arm64", layers=[b"a", b"b"], claimed_layer_bytes=[4_000, 1_001])
    registry.add("owner/app:v1", FakeImage(), large)
    error = await fault_of(client, architecture="amd64")
    assert (error.code, "arm64" in error.message, "5001" in error.message) == (
        ImageFault.TOO_LARGE,
        True,
        True,
    )


async def test_an_entry_without_a_platform_is_known_by_its_configuration(
    client: HttpImageRegistry, registry: FakeRegistry
) -> None:
    inner = registry.add("owner/app:inner", FakeImage(architecture="arm64"), oci=True)
    entry = {"mediaType": OCI_MANIFEST, "digest": inner, "size": 1}
    registry.add_document("owner/app:v1", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
    assert (await client.verify(NAME)).architectures == ("arm64",)


DEEP = b'{"x":' + b"[" * 60_000 + b"]" * 60_000 + b"}"
BLOB = {"digest": "sha256:" + 64 * "0", "size": 1}
ENTRY = {"digest": BLOB["digest"], "platform": {"architecture": "amd64", "os": "linux"}}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"schemaVersion":1,"name":"owner/app","fsLayers":[]}',
        b'{"schemaVersion":2}',
        {"schemaVersion": 2, "config": BLOB},
        {"schemaVersion": 2, "config": BLOB, "layers": [{"digest": "sha256:xyz", "size": 1}]},
        {"schemaVersion": 2, "config": BLOB, "layers": [{**BLOB, "size": -1}]},
        {"schemaVersion": 2, "config": BLOB, "layers": [{**BLOB, "size": "1"}]},
        {"schemaVersion": 2, "config": {**BLOB, "digest": "../../v1"}, "layers": []},
        {"schemaVersion": 2, "manifests": [{**ENTRY, "digest": "sha256:" + 64 * "G"}]},
        {"schemaVersion": 2, "manifests": [ENTRY] * 17},
        {"schemaVersion": 2, "manifests": "none"},
        DEEP,
    ],
)
async def test_nonsense_is_a_bad_answer(
    client: HttpImageRegistry, registry: FakeRegistry, document: dict[str, Any] | bytes
) -> None:
    registry.add_document("owner/app:v1", document, OCI_INDEX)
    error = await fault_of(client)
    assert error.code == ImageFault.BAD_ANSWER
    assert HERE in error.message


async def test_a_list_inside_of_a_list_is_a_bad_answer(
    client: HttpImageRegistry, registry: FakeRegistry
) -> None:
    inner = registry.add("owner/app:inner", FakeImage(), index=True)
    entry = {**ENTRY, "digest": inner}
    registry.add_document("owner/app:v1", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
    assert "list of images inside" in (await fault_of(client)).message


# --- digests


async def test_the_digest_costs_one_question_without_a_body(
    client: HttpImageRegistry, registry: FakeRegistry
) -> None:
    digest = registry.add("owner/app:v1", FakeImage(), FakeImage(architecture="arm64"))
    assert await client.digest(NAME) == digest
    assert registry.paths() == [HEAD]


@pytest.mark.parametrize("header", ["", "md5:abc", "sha256:short"])
async def test_a_registry_that_does_not_say_the_digest_is_asked_for_the_document(
    client: HttpImageRegistry, registry: FakeRegistry, header: str
) -> None:
    digest = registry.add("owner/app:v1", FakeImage())
    registry.digest_header = header
    assert await client.digest(NAME) == digest
    assert registry.paths() == [HEAD, TAGGED]
    assert (await client.verify(NAME)).digest == digest


async def test_content_must_have_the_digest_it_was_asked_for_by(
    client: HttpImageRegistry, registry: FakeRegistry
) -> None:
    registry.add("owner/app:v1", FakeImage())
    registry.bodies["/blobs/"] = b'{"architecture":"amd64","os":"linux"}'
    assert "digest" in (await fault_of(client)).message
    registry.bodies.clear()
    registry.digest_header = "sha256:" + 64 * "0"
    error = await fault_of(client)
    assert (error.code, "digest" in error.message) == (ImageFault.BAD_ANSWER, True)


# --- getting in


async def test_a_token_is_asked_for_once_and_again_when_its_time_is_over(
    client: HttpImageRegistry, registry: FakeRegistry, autojump_clock: trio.testing.MockClock
) -> None:
    registry.add("owner/app:v1", FakeImage())
    registry.token_auth = True
    await client.verify(NAME)
    await client.digest(NAME)
    assert list(registry.tokens.values()) == ["repository:owner/app:pull"]
    token = next(path for path in registry.paths() if "/token" in path)
    assert "service=test%2C+registry" in token
    await trio.sleep(149)
    await client.digest(NAME)
    assert len(registry.tokens) == 1
    await trio.sleep(2)
    await client.digest(NAME)
    assert len(registry.tokens) == 2


async def test_a_token_that_is_not_good_any_more_is_replaced(
    client: HttpImageRegistry, registry: FakeRegistry
) -> None:
    digest = registry.add("owner/app:v1", FakeImage())
    registry.token_auth = True
    registry.token_field = "access_token"
    await client.digest(NAME)
    registry.tokens.clear()
    assert await client.digest(NAME) == digest


@pytest.mark.parametrize(
    ("realm", "code"),
    [
        ("http://auth.example/token", ImageFault.BAD_ANSWER),
        ("file:///etc/passwd", ImageFault.BAD_ANSWER),
        ("/token", ImageFault.BAD_ANSWER),
        ("https://auth.example:port/token", ImageFault.BAD_ANSWER),
        (f"https://{'a' * 64}.example/token", ImageFault.BAD_ANSWER),
        ("https://xn--a.example/token", ImageFault.BAD_ANSWER),
        ("https://auth.example/token?account=x", None),
    ],
)
async def test_a_login_is_sent_to_a_safe_place_only(
    client: HttpImageRegistry, registry: FakeRegistry, realm: str, code: ImageFault | None
) -> None:
    registry.add("owner/app:v1", FakeImage())
    registry.token_auth = True
    registry.token_user = (ANNA.username, ANNA.password)
    registry.realm = realm
    if code is None:
        await client.verify(NAME, credentials=ANNA)
        assert any("account=x" in path and "scope=" in path for path in registry.paths())
        return
    assert (await fault_of(client, credentials=ANNA)).code == code
    assert all("authorization" not in asked.headers for asked in registry.asked)


async def test_a_registry_that_wants_name_and_password_itself(
    client: HttpImageRegistry, registry: FakeRegistry
) -> None:
    digest = registry.add("owner/app:v1", FakeImage())
    registry.basic = (ANNA.username, ANNA.password)
    assert (await fault_of(client)).code == ImageFault.UNAUTHORIZED
    assert (await fault_of(client, credentials=Credentials("anna", "no"))).code == ImageFault.UNAUTHORIZED
    refused = len(registry.asked)
    assert (await fault_of(client, credentials=Credentials("anna", "no"))).code == ImageFault.UNAUTHORIZED
    said = ["authorization" in asked.headers for asked in registry.asked[refused:]]
    assert said == [False, True], "what was refused is not tried again first"
    assert await client.digest(NAME, ANNA) == digest
    before = len(registry.asked)
    assert await client.digest(NAME, ANNA) == digest
    assert len(registry.asked) == before + 1, "the second time it comes in at once"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ImageFault.BAD_ANSWER),
        (401, ImageFault.UNAUTHORIZED),
        (403, ImageFault.UNAUTHORIZED),
        (404, ImageFault.MISSING),
        (418, ImageFault.BAD_ANSWER),
        (429, ImageFault.RATE_LIMITED),
        (500, ImageFault.UNREACHABLE),
        (503, ImageFault.UNREACHABLE),
    ],
)
@pytest.mark.parametrize("where", ["/manifests/", "/blobs/", "/token"])
async def test_statuses(
    client: HttpImageRegistry, registry: FakeRegistry, status: int, code: ImageFault, where: str
) -> None:
    registry.add("owner/app:v1", FakeImage())
    registry.token_auth = True
    registry.statuses[where] = status
    assert (await fault_of(client)).code == code


async def test_nothing_that_is_logged_or_raised_shows_the_login(
    client: HttpImageRegistry, registry: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    registry.token_auth = True
    registry.token_user = (ANNA.username, ANNA.password)
    token = {"token": "secret token"}
    for body in (msgspec.json.encode(token), b'{"token":"t"}', b"nonsense"):
        registry.bodies["/token"] = body
        error = await fault_of(client, credentials=ANNA)
        chain: BaseException | None = error
        while chain is not None:
            shown = f"{chain!r} {chain} {error.one_line()}"
            assert "word of" not in shown
            assert "secret" not in shown
            chain = chain.__cause__ or chain.__context__
    registry.token_auth = False
    registry.add("owner/app:v1", FakeImage())
    await client.verify(NAME, credentials=ANNA)
    assert "word of" not in caplog.text
    assert "Authorization" not in caplog.text


# --- redirects


async def test_a_redirect_is_followed_without_the_login(registry: FakeRegistry) -> None:
    store = FakeRegistry("store.example", scheme="https")
    for one in (registry, store):
        one.add("owner/app:v1", FakeImage())
    registry.basic = (ANNA.username, ANNA.password)
    registry.redirect_blobs_to = "https://store.example/elsewhere/.."
    async with open_image_registry(
        max_image_bytes=5_000, token_margin_s=0.0, transport=_ByHost(registry, store)
    ) as client:
        await client.verify(NAME, credentials=ANNA)
        assert len(store.asked) == 1
        assert "authorization" not in store.asked[0].headers
        # The other place cannot ask for a login either.
        store.token_auth = True
        assert (await fault_of(client, credentials=ANNA)).code == ImageFault.UNAUTHORIZED
        assert all("authorization" not in asked.headers for asked in store.asked)
        assert all("/token" not in path for path in store.paths())


@pytest.mark.parametrize(
    "target",
    [
        "http://store.example",
        "file:///etc",
        "https://store.example:port",
        f"https://{'a' * 64}.example",
        "https://xn--a.example",
        "https://[::1",
    ],
)
async def test_a_redirect_to_an_unsafe_place_is_not_followed(
    client: HttpImageRegistry, registry: FakeRegistry, target: str
) -> None:
    registry.add("owner/app:v1", FakeImage())
    registry.redirect_blobs_to = target
    assert (await fault_of(client)).code in (ImageFault.BAD_ANSWER, ImageFault.UNREACHABLE)
    assert len(registry.asked) == 2


async def test_redirects_come_to_an_end(client: HttpImageRegistry, registry: FakeRegistry) -> None:
    registry.add("owner/app:v1", FakeImage())
    registry.redirect_blobs_to = f"https://{HERE}"
    assert "redirects" in (await fault_of(client)).message
    assert len(registry.asked) == 7


# --- limits


async def test_answers_have_a_size_limit(client: HttpImageRegistry, registry: FakeRegistry) -> None:
    registry.add("owner/app:v1", FakeImage())
    for part, size in (("/manifests/", 4 << 20), ("/blobs/", 8 << 20)):
        registry.bodies = {part: b" " * (size + 1)}
        assert f"more than {size} bytes" in (await fault_of(client)).message


async def test_an_answer_that_is_packed_without_having_been_asked_for_is_refused(
    client: HttpImageRegistry, registry: FakeRegistry
) -> None:
    registry.add("owner/app:v1", FakeImage())
    registry.extra_headers["content-encoding"] = "gzip"
    assert "compressed" in (await fault_of(client)).message
    assert {asked.headers["accept-encoding"] for asked in registry.asked} == {"identity"}


async def test_cookies_are_not_kept(client: HttpImageRegistry, registry: FakeRegistry) -> None:
    registry.add("owner/app:v1", FakeImage())
    registry.extra_headers["set-cookie"] = "who=anna; Path=/"
    await client.verify(NAME)
    await client.verify(NAME)
    assert all("cookie" not in asked.headers for asked in registry.asked)


class _ByHost(httpx.AsyncBaseTransport):
    def __init__(self, *registries: FakeRegistry) -> None:
        self._registries = {one.address: one.transport() for one in registries}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._registries[request.url.host].handle_async_request(request)


async def test_the_kit_and_the_client_name_the_same_documents() -> None:
    assert set(documents.INDEX_TYPES) == {fakeregistry.OCI_INDEX, fakeregistry.DOCKER_INDEX}
    assert set(documents.MANIFEST_TYPES) == {fakeregistry.OCI_MANIFEST, fakeregistry.DOCKER_MANIFEST}


@pytest.mark.parametrize("label", ["a" * 64, ".".join(["a"] * 130), "xn--a"])
async def test_a_registry_that_cannot_be_looked_up_is_an_answer_and_no_crash(label: str) -> None:
    """Over real look-ups: what an owner writes as the host of his image."""
    async with open_image_registry(max_image_bytes=5_000, token_margin_s=900.0, timeout_s=5.0) as client:
        for ask in (client.verify, client.digest):
            with pytest.raises(ImageError) as caught:
                await ask(f"{label}.invalid/owner/app:v1")
            assert caught.value.code in (ImageFault.BAD_NAME, ImageFault.UNREACHABLE)


async def test_what_a_connection_cannot_take_is_an_answer_and_no_crash() -> None:
    """Whatever the client below us makes of an odd host: it concerns one image."""

    class Odd(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise UnicodeError("label empty or too long")

    async with open_image_registry(max_image_bytes=5_000, token_margin_s=900.0, transport=Odd()) as client:
        assert (await fault_of(client)).code == ImageFault.BAD_ANSWER


async def test_configurations_and_tokens_may_be_as_deep_as_they_like() -> None:
    assert read_token(DEEP) is None
    with pytest.raises(ImageError, match="cannot be read"):
        documents.architecture_of(parse_name(NAME), DEEP)
