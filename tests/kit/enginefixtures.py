"""Fixtures for tests on a real engine; a conftest takes them with `from enginefixtures import *`.

`engine` is shared by all tests of a process (its images stay, everything else must go: `nothing_left`);
`own_engine` is one for a single test that kills or restarts it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import dockerengine
import imageregistry
import pytest
from dockerengine import DockerEngine, TestEngine
from engineapi import EngineApi
from leaks import LeakWatch

__all__ = [
    "engine",
    "engine_api",
    "engine_log_on_failure",
    "engine_socket",
    "engine_turn",
    "image_registry",
    "nothing_left",
    "own_engine",
    "patient_listeners",
    "private_engine",
    "pytest_runtest_makereport",
]

LOG_START = pytest.StashKey[tuple[TestEngine, int]]()


def engine_or_skip() -> None:
    """Skips (in CI: fails) with the reason why no engine can be had."""
    reason = dockerengine.why_not()
    if reason is not None:
        _missing(reason)


def _missing(reason: str) -> None:
    if os.environ.get(dockerengine.NEEDED):
        pytest.fail(f"a container engine is needed here: {reason}")
    pytest.skip(f"no container engine: {reason}")


def _short_folder() -> Path:
    # pytest's folders are too long for the unix sockets inside.
    return Path(tempfile.mkdtemp(prefix="tt-", dir="/tmp"))


@pytest.fixture(scope="session")
def engine() -> Iterator[TestEngine]:
    """The engine of all tests: the one that TRIONODE_TEST_ENGINE names, else one of our own."""
    engine_or_skip()
    url = os.environ.get(dockerengine.SHARED_ENGINE)
    if url:
        log = os.environ.get(dockerengine.SHARED_ENGINE_LOG)
        socket_path = Path(url.removeprefix("unix://"))
        shared = TestEngine(url, socket_path.parent, Path(log) if log else socket_path.parent / "log")
        assert shared.api.ping(), f"{dockerengine.SHARED_ENGINE} names {url}, but nothing answers there"
        yield shared
        return
    with dockerengine.running_engine(_short_folder()) as started:
        yield started.at


@pytest.fixture(scope="session")
def engine_socket(engine: TestEngine) -> str:
    """`unix:///...` of the shared engine."""
    return engine.url


@pytest.fixture(scope="session")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[imageregistry.TestRegistry]:
    """A registry without users for all tests of this process; images are told apart by their names."""
    reason = imageregistry.why_not()
    if reason is not None:
        _missing(reason)
    with imageregistry.running_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
def engine_api(engine: TestEngine, engine_turn: None) -> EngineApi:
    """A plain client of the shared engine, independent of the adapter."""
    return engine.api


@pytest.fixture
def engine_turn() -> Iterator[None]:
    """One test at a time in one network namespace: app networks have fixed addresses."""
    number = os.stat("/proc/self/ns/net").st_ino
    with Path(f"/tmp/trionode-engine-{number}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def nothing_left(engine: TestEngine, engine_turn: None, tmp_path: Path) -> Iterator[LeakWatch]:
    """Fails the test when it leaves anything behind; mounts and loop devices count beneath tmp_path.

    Ask for it before the fixtures that clean up by themselves, so that it looks after they did.
    """
    folders = [tmp_path] if engine.folder is None else [tmp_path, engine.folder]
    watch = LeakWatch(engine.api, folders=folders)
    yield watch
    left = watch.settled()
    if left:
        try:
            watch.clean_up()
        finally:
            pytest.fail("\n".join(left))


@pytest.fixture
def private_engine(engine_turn: None) -> Iterator[DockerEngine]:
    """An engine that is not started yet, for one test; everything of it is removed afterwards."""
    engine_or_skip()
    if shutil.which("dockerd") is None:
        pytest.skip("this test starts dockerd itself, which is not installed")
    made = DockerEngine(_short_folder())
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture
def own_engine(private_engine: DockerEngine) -> DockerEngine:
    """A started engine of this test alone, to kill, pause and restart."""
    private_engine.start()
    return private_engine


@pytest.fixture(autouse=True)
def patient_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an engine may take long to answer who wants its events, and is not away for that."""
    monkeypatch.setattr("trionode.containers.docker.events.ENTER_WITHIN_S", 120.0)


@pytest.fixture(autouse=True)
def engine_log_on_failure(request: pytest.FixtureRequest) -> None:
    """Remembers where the engine's log stands, so that a failure shows what was written since."""
    for name in ("own_engine", "private_engine", "engine"):
        if name in request.fixturenames:
            made = request.getfixturevalue(name)
            at = made if isinstance(made, TestEngine) else made.at
            size = at.log.stat().st_size if at.log is not None and at.log.exists() else 0
            request.node.stash[LOG_START] = (at, size if name == "engine" else 0)
            return


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the engine's log to the report of a failed test."""
    report = yield
    if report.failed and LOG_START in item.stash:
        at, start = item.stash[LOG_START]
        report.sections.append((f"log of the engine {at.url}", at.log_tail(start)))
    return report
