"""Encrypted specifications: opened with the key the benchmark daemon unwraps, otherwise not at all."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from Crypto.Cipher import AES
from structlog.testing import capture_logs

from trionode.chain.enterprise import BenchOpener
from trionode.errors import ChainError
from trionode.runtime.counters import Counters

KEY = bytes(range(32))
WRAPPED = b"\x07" * 256
SECTION = '{"contacts":["a@b.c"],"compose":[{"name":"web","cpu":0.1,"environmentParameters":["PASSWORD="]}]}'


def blob(section: str = SECTION, key: bytes = KEY) -> str:
    cipher = AES.new(key, AES.MODE_GCM, nonce=b"n" * 12)
    text, tag = cipher.encrypt_and_digest(section.encode())
    return base64.b64encode(WRAPPED + b"n" * 12 + text + tag).decode()


def spec(enterprise: object) -> dict[str, Any]:
    return {"name": "shop", "owner": "1Owner", "compose": [], "contacts": [], "enterprise": enterprise}


class Bench:
    """Unwraps one key; notes what it is asked."""

    def __init__(self, key: bytes | None = KEY) -> None:
        self.key = key
        self.asked: list[dict[str, Any]] = []

    async def call(self, method: str, params: Sequence[Any] = (), *, fresh: bool = False) -> Any:
        await trio.lowlevel.checkpoint()
        assert (method, fresh) == ("decryptrsamessage", True)
        self.asked.append(json.loads(params[0]))
        if self.key is None:
            raise ChainError("Method not found", rpc_code=-32601)
        return json.dumps({"status": "ok", "message": base64.b64encode(self.key).decode()})

    async def batch(self, calls: object) -> list[Any]:
        raise AssertionError("not asked")


@pytest.mark.trio
async def test_the_section_takes_the_place_of_the_empty_members() -> None:
    bench, sealed = Bench(), spec(blob())
    opened = await BenchOpener(bench, Counters()).open(sealed, 2_100_000)
    assert opened is not None
    assert opened["contacts"] == ["a@b.c"]
    assert opened["compose"][0]["name"] == "web"
    assert opened["enterprise"] == sealed["enterprise"]
    assert sealed["compose"] == []
    assert bench.asked == [
        {
            "fluxID": "1Owner",
            "appName": "shop",
            "message": base64.b64encode(WRAPPED).decode(),
            "blockHeight": 2_100_000,
        }
    ]


@pytest.mark.trio
@pytest.mark.parametrize(
    ("key", "enterprise"),
    [
        (None, blob()),
        (b"\x01" * 32, blob()),
        (KEY[:16], blob()),
        (KEY, blob()[:-8] + "AAAAAAA="),
        (KEY, "not base64!"),
        (KEY, base64.b64encode(b"short").decode()),
        (KEY, blob("[]")),
        (KEY, blob('{"contacts":[]}')),
        (KEY, blob("{")),
        (KEY, 5),
        (KEY, None),
    ],
)
async def test_what_does_not_open_says_so_and_tells_nothing_of_it(
    key: bytes | None, enterprise: object
) -> None:
    counters = Counters()
    with capture_logs() as lines:
        assert await BenchOpener(Bench(key), counters).open(spec(enterprise), 1) is None
    assert counters["enterprise.not_opened"] == 1
    assert "PASSWORD" not in str(lines)
    assert base64.b64encode(KEY).decode() not in str(lines)


@pytest.mark.trio
@pytest.mark.parametrize("place", [-1, 256, 256 + 12 + 5])
async def test_one_bit_changed_anywhere_behind_the_key_and_nothing_is_read(place: int) -> None:
    data = bytearray(base64.b64decode(blob()))
    data[place] ^= 1
    sealed = spec(base64.b64encode(bytes(data)).decode())
    assert await BenchOpener(Bench(), Counters()).open(sealed, 1) is None
