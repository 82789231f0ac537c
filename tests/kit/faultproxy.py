"""A small TCP proxy between a MongoDB client and its server, which can spoil the talk between them.

It reads the frames of the MongoDB wire protocol, so that a fault can hit one command exactly: cut before it
is handed on, in the middle of it, or after it was carried out but before the client hears of it. It runs in
threads of its own, so that slow or stuck tests, trio or not, never hold it up.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import bson
import msgspec

When = Literal["before", "half", "after"]
"""Before the server sees the command; when it saw half of it; when it has carried it out."""

NOT_PRIMARY = {
    "ok": 0.0,
    "code": 10107,
    "codeName": "NotWritablePrimary",
    "errmsg": "not primary",
    "errorLabels": ["RetryableWriteError"],
}
DISK_FULL = {"ok": 0.0, "code": 14031, "codeName": "OutOfDiskSpace", "errmsg": "no space left on device"}
SESSION_CALLS = frozenset({"hello", "ismaster", "ping", "endSessions", "buildInfo", "startSession"})
"""Commands of drivers among themselves, which are no step of a store."""

ANSWERS_WITHIN_S = 300.0
"""Longer than any call takes on the busiest machine."""

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_MORE_TO_COME = 2


class Call(msgspec.Struct, frozen=True):
    """One command on its way to the server."""

    number: int
    """Counted from 1 over all connections; calls of drivers among themselves are not counted (0)."""
    name: str
    document: dict[str, Any]
    is_silent: bool = False
    """Whether the client wants no answer, and so does not know when it arrives."""


Judge = Callable[[Call], "Fault | None"]


class Fault(msgspec.Struct, frozen=True):
    """What happens to one call: its connection is cut, or it gets `answer` instead of the server's."""

    cut: When | None = None
    answer: dict[str, Any] | None = None
    then: Callable[[], None] | None = None
    """Done when the fault happens, before anything goes on."""


class FaultProxy:
    """A door to a server. All settings may be changed at any time, from any thread."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.delay_s = 0.0
        """How long each call waits before it is handed on."""
        self.judge: Judge | None = None
        """Looks at every call and may spoil it."""
        self.calls: list[Call] = []
        self.steps = 0
        """Calls since `spoil` (of the name it was given)."""
        self._target = target
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        """The one whose connections are let through."""
        self._flowing = threading.Event()
        self._flowing.set()
        self._ended = threading.Event()
        # Each process has an address of its own; a socket holds the port, so that nobody gets it meanwhile.
        pid = os.getpid()
        self.host = f"127.7.{1 + pid // 250 % 250}.{1 + pid % 250}"
        self._place = bound(self.host)
        self.port: int = self._place.getsockname()[1]
        self.up()

    # What tests do to the network

    def up(self) -> None:
        """Listen, on the same port as before."""
        listener = bound(self.host, self.port)
        listener.listen(64)
        self._listener = listener
        self._start(self._accept, listener)

    def down(self) -> None:
        """Cut every connection and refuse new ones."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            # From here on it refuses; the thread that waits in accept wakes, and closes it.
            _end(listener)
        self.cut()

    @property
    def is_down(self) -> bool:
        return self._listener is None

    def cut(self) -> None:
        """Cut every connection; new ones are let in."""
        with self._lock:
            for victim in self._open:
                _end(victim)

    def stall(self) -> None:
        """Nothing goes through any more, and nothing is closed."""
        self._flowing.clear()

    def flow(self) -> None:
        """End `stall`."""
        self._flowing.set()

    def spoil(
        self,
        fault: Fault,
        *,
        name: str | None = None,
        nth: int = 1,
        times: int = 1,
        after: Fault | None = None,
    ) -> None:
        """Let `fault` hit the `nth` call from now (of that `name`), and those after it, `times` in all; then
        `after` all that follow.

        Silent calls that come first are of the time before: nobody waited for them. `steps` counts the rest.
        """
        self.steps = 0
        lock = threading.Lock()

        def judge(call: Call) -> Fault | None:
            if call.number == 0 or (name is not None and call.name != name):
                return None
            with lock:
                if self.steps == 0 and call.is_silent:
                    return None
                self.steps += 1
                if self.steps < nth:
                    return None
                return fault if self.steps < nth + times else after

        self.judge = judge

    def count(self, name: str | None = None) -> int:
        """How many calls there were (of that name)."""
        return sum(call.number > 0 and name in (None, call.name) for call in self.calls)

    def close(self) -> None:
        self._ended.set()
        self._flowing.set()
        self.down()
        for thread in self._threads:
            thread.join(ANSWERS_WITHIN_S)
        self._place.close()

    # Inside

    def _start(self, work: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    if self._listener is not listener:
                        return
                    self._ended.wait(0.05)
                    continue
                try:
                    server = socket.create_connection(self._target, ANSWERS_WITHIN_S)
                except OSError:
                    client.close()
                    continue
                for end in (client, server):
                    end.settimeout(None)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    if self._listener is listener:
                        self._open |= {client, server}
                        self._start(self._pass_on, client, server)
                        continue
                # It went down meanwhile: nobody gets through who was about to.
                client.close()
                server.close()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        """Both ways, until one of them ends."""
        answers = threading.Thread(target=self._run, args=(self._answers, client, server), daemon=True)
        answers.start()
        self._run(self._requests, client, server)
        answers.join()
        # Not before: the number of a closed socket may be that of a new one, which the other way would read.
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _run(
        self,
        pump: Callable[[socket.socket, socket.socket], None],
        client: socket.socket,
        server: socket.socket,
    ) -> None:
        with suppress(OSError, EOFError):
            pump(client, server)
        _end(client)
        _end(server)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            frame = _read_frame(client)
            call = self._call_of(frame)
            if self.delay_s:
                self._ended.wait(self.delay_s)
            self._flowing.wait()
            fault = self.judge(call) if self.judge is not None else None
            if fault is None:
                server.sendall(frame)
                continue
            if fault.cut == "half":
                server.sendall(frame[: len(frame) // 2])
            elif fault.cut == "after":
                self._carry_out(frame)
            if fault.then is not None:
                fault.then()
            if fault.answer is None:
                return
            if not _is_silent(frame):
                client.sendall(_answer_to(frame, fault.answer))

    def _carry_out(self, frame: bytes) -> None:
        """Have the server do it, on a connection of its own, and keep its answer back."""
        with socket.create_connection(self._target, ANSWERS_WITHIN_S) as aside:
            aside.sendall(frame)
            if not _is_silent(frame):
                _read_frame(aside)

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            frame = _read_frame(server)
            self._flowing.wait()
            client.sendall(frame)

    def _call_of(self, frame: bytes) -> Call:
        _, _, _, kind = _HEADER.unpack_from(frame)
        document: dict[str, Any] = {}
        if kind == _OP_MSG and frame[20] == 0:
            size = int.from_bytes(frame[21:25], "little")
            document = bson.decode(frame[21 : 21 + size])
        name = next(iter(document), "hello")
        with self._lock:
            number = 0 if name in SESSION_CALLS else self.count() + 1
            call = Call(number, name, document, _is_silent(frame))
            self.calls.append(call)
        return call


def _read_frame(stream: socket.socket) -> bytes:
    head = _read(stream, 4)
    return head + _read(stream, int.from_bytes(head, "little") - 4)


def _read(stream: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = stream.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _is_silent(frame: bytes) -> bool:
    """Whether the client wants no answer."""
    return _HEADER.unpack_from(frame)[3] == _OP_MSG and bool(frame[16] & _MORE_TO_COME)


def _answer_to(frame: bytes, document: dict[str, Any]) -> bytes:
    _, request, _, _ = _HEADER.unpack_from(frame)
    body = struct.pack("<IB", 0, 0) + bson.encode(document)
    return _HEADER.pack(_HEADER.size + len(body), 0, request, _OP_MSG) + body


def bound(host: str, port: int = 0) -> socket.socket:
    """A socket at that address, or at a free port. Until it is closed nobody else gets that port, but who is
    told to listen just there."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def _end(stream: socket.socket) -> None:
    """Whoever reads or writes it stops; the number of the socket is not given to another one yet."""
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


@contextmanager
def fault_proxy(host: str, port: int) -> Iterator[FaultProxy]:
    """A proxy before the server at that address, for the length of a block."""
    proxy = FaultProxy((host, port))
    try:
        yield proxy
    finally:
        proxy.close()
