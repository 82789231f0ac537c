"""A cut node really loses its links, old and new ones, while everybody else and the harness go on."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from network.namespace import HARNESS_IP, Namespace, NoNamespace

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

PORT = 5000
ANSWERS_WITHIN_S = 60.0
SILENT_FOR_S = 0.5
FIRST, SECOND, THIRD = "127.1.0.1", "127.2.0.1", "127.3.0.1"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    try:
        namespace = Namespace()
    except NoNamespace as error:
        pytest.skip(f"no network namespaces here: {error}")
    yield namespace
    namespace.close()


def serve(namespace: Namespace, ip: str) -> None:
    """Answer every connection with what it says."""
    with namespace.entered():
        listener = socket.create_server((ip, PORT))

    def echo(connection: socket.socket) -> None:
        # What was said while the link was cut arrives later; its sender may be gone by then.
        with connection, suppress(ConnectionError):
            while said := connection.recv(100):
                connection.sendall(said)

    def accept() -> None:
        with listener:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=echo, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def dial(namespace: Namespace, source: str, target: str) -> socket.socket:
    with namespace.entered():
        return socket.create_connection((target, PORT), timeout=ANSWERS_WITHIN_S, source_address=(source, 0))


def answers(link: socket.socket, within_s: float = ANSWERS_WITHIN_S) -> bool:
    link.settimeout(within_s)
    try:
        link.sendall(b"x")
        return bool(link.recv(10))
    except TimeoutError:
        return False


def test_only_the_cut_node_is_lost_and_a_mended_one_is_back(namespace: Namespace) -> None:
    for ip in (FIRST, SECOND, THIRD):
        serve(namespace, ip)
    links = {
        (source, target): dial(namespace, source, target)
        for source, target in ((FIRST, SECOND), (SECOND, FIRST), (FIRST, THIRD), (HARNESS_IP, SECOND))
    }
    assert all(answers(link) for link in links.values())

    namespace.cut(SECOND)
    for ends in ((FIRST, THIRD), (HARNESS_IP, SECOND)):
        assert answers(links[ends]), ends
    for ends in ((FIRST, SECOND), (SECOND, FIRST)):
        assert not answers(links[ends], SILENT_FOR_S), ends
    for source, target in ((FIRST, SECOND), (SECOND, FIRST)):
        with pytest.raises(OSError, match="unreachable") as refusal:
            dial(namespace, source, target)
        assert refusal.value.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)

    namespace.mend(SECOND)
    with dial(namespace, FIRST, SECOND) as link:
        assert answers(link)
    for link in links.values():
        link.close()


def test_two_namespaces_have_the_same_addresses_side_by_side() -> None:
    try:
        one, other = Namespace(), Namespace()
    except NoNamespace as error:
        pytest.skip(f"no network namespaces here: {error}")
    serve(one, FIRST)
    serve(other, FIRST)
    one.cut(FIRST)
    with dial(other, SECOND, FIRST) as link:
        assert answers(link)
    one.close()
    other.close()
