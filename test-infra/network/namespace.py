"""Where the processes of one network live: a network namespace of their own, in which a node can be cut off.

Every network has its own loopback range, so several run side by side. A cut is a routing rule: packets
from and to the node's /16 have no way any more, also those of established links, while everybody else goes
on. Only the harness keeps its way, because it has an address of its own (docs/spec/testnet.md §5).

Where namespaces cannot be made, a cut node is stopped with SIGSTOP instead, and that is said.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x4000_0000
HARNESS_IP = "127.254.0.1"
HARNESS_PREFERENCE = 10
CUT_PREFERENCE = 100
LOCAL_PREFERENCE = 30_000


class NoNamespace(Exception):
    """This machine or this user cannot make network namespaces."""


def _libc_call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _new_namespace() -> int:
    """A descriptor of a fresh network namespace; made in a thread, so that this one stays where it is."""
    result: list[int | OSError] = []

    def make() -> None:
        try:
            _libc_call("unshare", CLONE_NEWNET)
            result.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            result.append(error)

    maker = threading.Thread(target=make)
    maker.start()
    maker.join()
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]


class Namespace:
    """A network namespace with its loopback up. Close it when its processes are gone."""

    def __init__(self) -> None:
        """Raises NoNamespace with the reason."""
        if sys.platform != "linux":
            raise NoNamespace("network namespaces are a thing of Linux")
        try:
            self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self._there = _new_namespace()
        except OSError as error:
            raise NoNamespace(str(error)) from error
        self._cut: set[str] = set()
        try:
            self._prepare()
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoNamespace(f"the ip command of iproute2 is needed: {error}") from error

    def _prepare(self) -> None:
        self._ip("link", "set", "lo", "up")
        # The rule for local addresses comes first in a fresh namespace: move it behind the cuts.
        self._ip("rule", "add", "pref", str(LOCAL_PREFERENCE), "lookup", "local")
        self._ip("rule", "del", "pref", "0")
        for number, word in enumerate(("from", "to")):
            self._ip(
                "rule", "add", "pref", str(HARNESS_PREFERENCE + number), word, HARNESS_IP, "lookup", "local"
            )

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets and processes made inside belong to the namespace. Nothing may be awaited inside."""
        _libc_call("setns", self._there, CLONE_NEWNET)
        try:
            yield
        finally:
            _libc_call("setns", self._home, CLONE_NEWNET)

    def cut(self, ip: str) -> None:
        """From now on nothing of that node's /16 reaches anybody but the harness, nor the other way."""
        if ip not in self._cut:
            self._rules("add", ip)
            self._cut.add(ip)

    def mend(self, ip: str) -> None:
        """End a cut."""
        if ip in self._cut:
            self._rules("del", ip)
            self._cut.discard(ip)

    def _rules(self, action: str, ip: str) -> None:
        group = ip.split(".")[1]
        for number, word in enumerate(("from", "to")):
            preference = str(CUT_PREFERENCE + 2 * int(group) + number)
            self._ip("rule", action, "pref", preference, word, f"127.{group}.0.0/16", "unreachable")

    def _ip(self, *words: str) -> None:
        with self.entered():
            subprocess.run(["ip", *words], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def close(self) -> None:
        os.close(self._there)
        os.close(self._home)
