"""The OpenAPI document is true: everything it says is served, and answers have the shapes it says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import hypercorn.config
import hypercorn.trio
import hypothesis
import pytest
import requests
import schemathesis
import trio
from examples import examples
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from trionode.api.openapi import document
from trionode.api.routes import ROUTES
from trionode.appstate.documents import InstallErrorRow, InstallingRow

DESCRIBED = [route for route in ROUTES if route.group != "documents"]
ENDLESS = {"/flux/eventstream"}
EXAMPLES = examples(5)
ANSWERS_WITHIN_S = 120.0


@pytest.mark.trio
async def test_the_document_is_served_and_names_every_route(node: Any) -> None:
    response = await node.client.get("/openapi.json")
    served = json.loads(await response.get_data())
    assert served["openapi"] == "3.1.0"
    for route in DESCRIBED:
        for path in (route.path, *route.aliases):
            assert route.method.lower() in served["paths"][path], path
    operation_ids = [
        operation["operationId"] for methods in served["paths"].values() for operation in methods.values()
    ]
    assert len(operation_ids) == len(set(operation_ids))


@pytest.mark.trio
async def test_the_page_lists_every_route(node: Any) -> None:
    response = await node.client.get("/docs")
    page = (await response.get_data()).decode()
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.startswith("<!DOCTYPE html>")
    for route in DESCRIBED:
        assert route.path in page


def test_every_path_has_a_documented_answer_for_success_and_error() -> None:
    made = document(DESCRIBED)
    for path, methods in made["paths"].items():
        for operation in methods.values():
            assert "200" in operation["responses"], path
            assert operation["summary"], path


@pytest.fixture
def node(unstarted_host: Any) -> Any:
    """A node with everything there is to ask for, containers too."""
    return unstarted_host


@pytest.fixture
def server(node: Any) -> Iterator[str]:
    """The application on a loopback port, in a thread of its own."""
    node.peers.table.put("127.3.0.1", "16127", "outbound")
    node.peers.table.put("127.5.0.1", "16127", "inbound")
    node.log.index.rows = [node.Location("shop", "ab", "127.1.0.1")]
    node.log.installing_rows = [InstallingRow("shop", "127.1.0.1", node.now_ms, node.now_ms + 1)]
    node.log.error_rows = [InstallErrorRow("shop", "h", "127.1.0.1", "{}", node.now_ms, node.now_ms + 1)]
    node.daemon.answers |= {
        "getzelnodestatus": {"status": "CONFIRMED"},
        "getblockchaininfo": {"blocks": 1, "headers": 1},
        "listfluxnodes": [{"ip": "127.1.0.1"}],
        "getblockcount": 5,
        "getblockhash": "00ab",
    }
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    config = hypercorn.config.Config()
    config.bind = [f"fd://{sock.fileno()}"]
    config.errorlog = None
    # To draw the next example may take long; a connection closed meanwhile would lose its request.
    config.keep_alive_timeout = 600.0
    started, token, stop = threading.Event(), [], trio.Event()

    async def serve() -> None:
        token.append(trio.lowlevel.current_trio_token())
        async with trio.open_nursery() as nursery:

            async def run(*, task_status: trio.TaskStatus[Any]) -> None:
                await hypercorn.trio.serve(
                    node.app, config, shutdown_trigger=stop.wait, task_status=task_status
                )

            await nursery.start(run)
            async with trio.open_nursery() as desk:
                await node.start(desk)
                started.set()
                await stop.wait()
                desk.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert started.wait(60)
    yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    token[0].run_sync_soon(stop.set)
    thread.join(60)
    sock.detach()
    assert not thread.is_alive()


@pytest.mark.process
@pytest.mark.timeout(900)
def test_answers_conform_to_the_document(server: str, node: Any) -> None:
    schema = schemathesis.openapi.from_dict(document(DESCRIBED))
    checks = [status_code_conformance, content_type_conformance, response_schema_conformance]
    operations = [result.ok() for result in schema.get_all_operations()]
    tried = set()
    # One session for all: to prepare another for every request would take longer than the request.
    session = requests.Session()
    session.trust_env = False
    for operation in operations:
        if operation.path in ENDLESS:
            continue

        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy())
        def conforms(case: Any) -> None:
            case.call_and_validate(base_url=server, checks=checks, session=session, timeout=ANSWERS_WITHIN_S)

        conforms()
        tried.add(operation.path)
    session.close()
    assert len(tried) == len({operation.path for operation in operations}) - 1
    assert node.counters["api.requests.crashed"] == 0
