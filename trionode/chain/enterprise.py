"""Opens the encrypted section of enterprise specifications with the help of the benchmark daemon.

Facts: docs/spec/registry.md §10 (enterprise blob), daemon-rpc.md §6. The blob is base64 of an RSA-wrapped
AES key (256 bytes, unwrapped by `decryptrsamessage` on secure nodes only), a nonce, the AES-256-GCM text of
a JSON object {contacts, compose}, and its tag. What is inside never reaches a log or an error text.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec
from Crypto.Cipher import AES

from trionode.chain.port import ChainRpc
from trionode.errors import ChainError, WireError
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.jsjson import parse, stringify

WRAPPED_KEY_BYTES = 256
NONCE_BYTES = 12
TAG_BYTES = 16
KEY_BYTES = 32
UNWRAP = "decryptrsamessage"
PUBLIC_KEY = "getpublickey"

log = get_logger("chain.enterprise")


class Sealed(msgspec.Struct, frozen=True):
    """The parts of a blob."""

    wrapped_key: bytes
    nonce: bytes
    text: bytes
    tag: bytes

    @classmethod
    def read(cls, blob: str) -> Sealed | None:
        """None when it is no such blob."""
        try:
            data = base64.b64decode(blob, validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(data) < WRAPPED_KEY_BYTES + NONCE_BYTES + TAG_BYTES:
            return None
        rest = data[WRAPPED_KEY_BYTES:]
        nonce, text, tag = rest[:NONCE_BYTES], rest[NONCE_BYTES:-TAG_BYTES], rest[-TAG_BYTES:]
        return cls(data[:WRAPPED_KEY_BYTES], nonce, text, tag)

    def opened(self, key: bytes) -> bytes | None:
        """The clear text; None when the key is not the one or the text was changed."""
        try:
            cipher = AES.new(key, AES.MODE_GCM, nonce=self.nonce, mac_len=TAG_BYTES)
            return cipher.decrypt_and_verify(self.text, self.tag)
        except ValueError:
            return None


class BenchOpener:
    """`store.appregistry_ports.EnterpriseOpener` of a secure node; on others it opens nothing."""

    def __init__(self, bench: ChainRpc, counters: Counters) -> None:
        self._bench = bench
        self._counters = counters

    async def open(self, spec: Mapping[str, Any], height: int) -> dict[str, Any] | None:
        """The specification with `contacts` and `compose` in clear; None when that cannot be done."""
        section = await self._section(spec, height)
        if isinstance(section, str):
            self._counters.add("enterprise.not_opened")
            log.info("enterprise specification not opened", app=spec.get("name"), why=section)
            return None
        return {**spec, **section}

    async def _section(self, spec: Mapping[str, Any], height: int) -> dict[str, Any] | str:
        """The clear section, or why there is none."""
        blob = spec.get("enterprise")
        sealed = Sealed.read(blob) if isinstance(blob, str) else None
        if sealed is None:
            return "it has no encrypted section of the known form"
        key = await self._unwrapped(spec, sealed.wrapped_key, height)
        if key is None:
            return "the benchmark daemon does not unwrap its key"
        clear = sealed.opened(key)
        section = None if clear is None else _read(clear)
        return "its key does not open it" if section is None else section

    async def _unwrapped(self, spec: Mapping[str, Any], wrapped: bytes, height: int) -> bytes | None:
        question = {
            "fluxID": spec.get("owner", ""),
            "appName": spec.get("name", ""),
            "message": base64.b64encode(wrapped).decode(),
            "blockHeight": height,
        }
        text = await _asked(self._bench, UNWRAP, question, "message")
        try:
            key = base64.b64decode(text or "", validate=True)
        except (binascii.Error, ValueError):
            return None
        return key if len(key) == KEY_BYTES else None


async def public_key(bench: ChainRpc, owner: str, app: str, height: int) -> str | None:
    """What the section of this owner's app is encrypted with; None when the benchmark daemon gives no key."""
    question = {"fluxID": owner, "appName": app, "blockHeight": height}
    return await _asked(bench, PUBLIC_KEY, question, "publicKey")


async def _asked(bench: ChainRpc, method: str, question: Mapping[str, Any], member: str) -> str | None:
    """A member of the answer, which is the text of a JSON object; None when it is refused."""
    try:
        answer = await bench.call(method, [stringify(dict(question))], fresh=True)
        document = msgspec.json.decode(answer) if isinstance(answer, str) else answer
    except (ChainError, msgspec.DecodeError):
        return None
    if not isinstance(document, dict) or document.get("status") != "ok":
        return None
    found = document.get(member)
    return found if isinstance(found, str) else None


def _read(clear: bytes) -> dict[str, Any] | None:
    """{contacts, compose}, with numbers and order as they were signed."""
    try:
        section = parse(clear.decode())
    except (UnicodeDecodeError, WireError):
        return None
    if not isinstance(section, dict) or not isinstance(section.get("compose"), list):
        return None
    contacts = section.get("contacts")
    return {"contacts": contacts if isinstance(contacts, list) else [], "compose": section["compose"]}
