"""The parts of hypercorn that `api.httpserver` stands on; a changed hypercorn must fail here first.

If this fails after an upgrade: read the changed file, check that a `ReplayStream` is still all that
a connection needs, run `tests/api/test_frontdoor*.py`, then write the new digest here.
"""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import version
from pathlib import Path

import pytest
from hypercorn.trio import lifespan, tcp_server, worker_context
from hypercorn.utils import wrap_app

DIGESTS = {
    tcp_server: "fbec50b5df48e46d28e1a594c47931e1395d1dded14044945203f7840d0cba20",
    lifespan: "874bc7505af1c03b0114a9e935824c0083d633caabf7493f5fec16f4ecf64be7",
    worker_context: "431948d8c2f013ce3fe9229bfe16bd9308dae972fc60e42843104e2cc2f9f24d",
}


def test_the_minor_version_is_the_pinned_one() -> None:
    assert version("hypercorn").split(".")[:2] == ["0", "18"]


@pytest.mark.parametrize("module", DIGESTS, ids=lambda module: module.__name__)
def test_the_source_we_rely_on_is_unchanged(module: object) -> None:
    text = Path(inspect.getfile(module)).read_bytes()  # type: ignore[arg-type]
    assert hashlib.sha256(text).hexdigest() == DIGESTS[module], f"{module} changed: see this file's head"  # type: ignore[index]


def test_signatures() -> None:
    assert list(inspect.signature(tcp_server.TCPServer.__init__).parameters) == [
        "self",
        "app",
        "config",
        "context",
        "state",
        "stream",
    ]
    assert list(inspect.signature(lifespan.Lifespan.__init__).parameters) == [
        "self",
        "app",
        "config",
        "state",
    ]
    assert list(inspect.signature(worker_context.WorkerContext.__init__).parameters) == [
        "self",
        "max_requests",
    ]
    assert list(inspect.signature(wrap_app).parameters) == ["app", "wsgi_max_body_size", "mode"]
