"""The client of image registries over real sockets: silence, nonsense, cancellation, TLS, the environment."""

from __future__ import annotations

import gc
import shutil
import ssl
from pathlib import Path

import pytest
import trio
from fakeregistry import FakeImage, fake_registry

from trionode.containers.images.http import CONNECTIONS, HttpImageRegistry, open_image_registry
from trionode.containers.images.registry import ImageError, ImageFault

pytestmark = [pytest.mark.trio, pytest.mark.process]


async def fault_of(client: HttpImageRegistry, name: str) -> ImageError:
    with pytest.raises(ImageError) as caught:
        await client.verify(name)
    return caught.value


async def test_over_sockets_and_back_after_silence_nonsense_and_cancellation() -> None:
    async with fake_registry() as registry:
        name = f"{registry.address}/owner/app:v1"
        digest = registry.add("owner/app:v1", FakeImage(), FakeImage(architecture="arm64"))
        registry.token_auth = True
        async with open_image_registry(max_image_bytes=5_000, token_margin_s=0.0, timeout_s=0.2) as hasty:
            registry.silent = True
            assert "within 0.2 s" in (await fault_of(hasty, name)).message
            registry.silent = False
        async with open_image_registry(max_image_bytes=5_000, token_margin_s=0.0) as client:
            assert (await client.verify(name, "arm64")).digest == digest
            registry.silent = True
            with trio.move_on_after(0.05) as scope:
                await client.digest(name)
            assert scope.cancelled_caught
            registry.silent = False
            registry.endless = True
            assert (await fault_of(client, name)).code == ImageFault.BAD_ANSWER
            registry.endless = False
            async with trio.open_nursery() as nursery:
                for _ in range(30):
                    nursery.start_soon(client.verify, name, "amd64")
            assert await client.digest(name) == digest
    gc.collect()  # an unclosed socket would warn, and a warning fails the test


async def test_what_is_refused_unread_does_not_use_up_the_connections() -> None:
    async with (
        fake_registry() as registry,
        open_image_registry(max_image_bytes=5_000, token_margin_s=0.0) as client,
    ):
        registry.add("owner/app:v1", FakeImage())
        registry.extra_headers["content-encoding"] = "gzip"
        for _ in range(CONNECTIONS + 1):
            error = await fault_of(client, f"{registry.address}/owner/app:v1")
            assert error.code == ImageFault.BAD_ANSWER


async def test_the_environment_lends_neither_logins_nor_proxies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with fake_registry() as registry:
        netrc = tmp_path / "netrc"
        netrc.write_text(f"machine {registry.address.split(':')[0]} login anna password word\n")
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.78:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.78:1")
        registry.add("owner/app:v1", FakeImage())
        async with open_image_registry(max_image_bytes=5_000, token_margin_s=0.0) as client:
            await client.verify(f"{registry.address}/owner/app:v1")
        assert all("authorization" not in asked.headers for asked in registry.asked)


async def test_only_those_the_machine_trusts_are_asked(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make a certificate with")
    # A way to write 127.0.0.1 that is not taken for a registry on the machine itself, so TLS is wanted.
    host = "127.1"
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    await trio.run_process(command, capture_stdout=True, capture_stderr=True)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificate, key)
    async with fake_registry("127.0.0.1", tls=serving) as registry:
        name = f"{host}:{registry.address.rpartition(':')[2]}/owner/app:v1"
        digest = registry.add("owner/app:v1", FakeImage())
        trusting = ssl.create_default_context(cafile=str(certificate))
        async with open_image_registry(max_image_bytes=5_000, token_margin_s=0.0, tls=trusting) as client:
            assert await client.digest(name) == digest
        async with open_image_registry(max_image_bytes=5_000, token_margin_s=0.0) as client:
            error = await fault_of(client, name)
    assert (error.code, "self-signed certificate" in error.message) == (ImageFault.UNREACHABLE, True)


async def test_a_place_where_nobody_or_somebody_else_answers() -> None:
    async def chatter(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail.example ESMTP\r\n")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.79")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, chatter, listeners)
        async with open_image_registry(max_image_bytes=5_000, token_margin_s=0.0) as client:
            error = await fault_of(client, f"127.0.0.79:{port}/app:v1")
            assert error.code == ImageFault.UNREACHABLE
            nursery.cancel_scope.cancel()
    async with open_image_registry(max_image_bytes=5_000, token_margin_s=0.0) as client:
        error = await fault_of(client, f"127.0.0.79:{port}/app:v1")
        assert error.code == ImageFault.UNREACHABLE
        assert "127.0.0.79" in error.message
        assert "refused" in error.message
