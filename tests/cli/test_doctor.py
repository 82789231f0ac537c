"""`trionode doctor`: what it sees in sick and well nodes, and the remedy it names (docs/cli.md)."""

from __future__ import annotations

import json
import random
import socket
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hostedapps import HostedApps, composed

from trionode.chain.conf import DaemonConf
from trionode.cli import doctor_chain, doctor_docker, doctor_machine, doctor_node, exitcodes
from trionode.cli.client import NodeApi
from trionode.cli.doctor_patient import Patient
from trionode.cli.doctor_report import Check, Finding, Verdict, examine, ok
from trionode.cli.main import call
from trionode.config.tree import Settings
from trionode.containers.engine import EngineUnreachable
from trionode.errors import ChainError, HostError
from trionode.plans.volumes import GB, DataVolume
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import SystemClock
from trionode.wire.keys import NodeKey

KEY = NodeKey.generate(random.Random(1))
STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "uptimeS": 5000.0,
    "node": {"dos": {"dosState": 0, "dosMessage": None}},
    "chain": {"height": 2_100_000},
    "peers": {"outbound": 20, "inbound": 20},
    "orchestrator": {"phase": "READY", "waitsFor": []},
    "services": [
        {"name": "home port", "state": "ready", "essential": False, "crashes": 0, "lastError": None},
        {"name": "sync port", "state": "ready", "essential": False, "crashes": 0, "lastError": None},
    ],
    "loopLag": {"p99Ms": 1.0, "maxMs": 4.0},
    "store": None,
}


class Rpc:
    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)

    async def call(self, method: str, params: Sequence[Any] = (), *, fresh: bool = False) -> Any:
        await trio.lowlevel.checkpoint()
        found = self.answers.get(method, ChainError("connection refused"))
        if isinstance(found, Exception):
            raise found
        return found

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        return [await self.call(method, params) for method, params in calls]


def now_s() -> int:
    return SystemClock().now_ms() // 1000


def well() -> Patient:
    """A node with nothing wrong."""
    base = Settings()
    row = {"ip": "5.6.7.8", "pubkey": KEY.public_key, "tier": "CUMULUS"}
    return Patient(
        settings=base,
        files=("trionode.toml",),
        env={},
        home=Path("/nowhere"),
        conf=DaemonConf(),
        api=NodeApi("127.0.0.1", 16127),
        daemon=Rpc(
            {
                "getblockchaininfo": {"blocks": 2_100_000, "headers": 2_100_000},
                "getinfo": {"version": 7020050, "connections": 9},
                "viewdeterministiczelnodelist": [row],
                "getzelnodestatus": {"status": "CONFIRMED"},
                "getbestblockhash": "00ab",
                "getblockheader": {"time": now_s() - 20},
            }
        ),
        bench=Rpc(
            {
                "getbenchmarks": {"status": "CUMULUS", "ipaddress": "5.6.7.8"},
                "getinfo": {"version": "9.9.9"},
            }
        ),
        key=KEY,
        status=json.loads(json.dumps(STATUS)),
        peers=[{"remoteClockOffsetMs": offset} for offset in (-100, 50, 300, None)],
    )


def configured(patient: Patient, section: str, **changes: Any) -> None:
    changed = msgspec.structs.replace(getattr(patient.settings, section), **changes)
    patient.settings = msgspec.structs.replace(patient.settings, **{section: changed})


def verdicts(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.name: finding.verdict.value for finding in findings}


def bad(findings: Sequence[Finding]) -> Finding:
    """The one that is not well; it must name a remedy."""
    (found,) = [one for one in findings if one.verdict in (Verdict.WARN, Verdict.FAIL)]
    assert found.remedy
    return found


# ---- running them --------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_checks_run_side_by_side_none_longer_than_its_time(autojump_clock: Any) -> None:
    async def slow(patient: Patient) -> Sequence[Finding]:
        await trio.sleep(1000)
        return []

    async def good(patient: Patient) -> Sequence[Finding]:
        await trio.sleep(5)
        return [ok("good", "seen")]

    async def broken(patient: Patient) -> Sequence[Finding]:
        raise HostError("it is broken", remedy="mend it")

    began = trio.current_time()
    checks = (
        Check("slow", slow, within_s=10),
        Check("late", slow, within_s=10, late=Verdict.WARN),
        Check("good", good),
        Check("broken", broken),
    )
    found = await examine(well(), checks)
    assert trio.current_time() - began == 10
    assert verdicts(found) == {"slow": "fail", "late": "warn", "good": "ok", "broken": "fail"}
    assert found[3].remedy == "mend it"


# ---- daemons, key, address, clock ----------------------------------------------------------------------


@pytest.mark.trio
async def test_a_well_node_has_nothing_wrong() -> None:
    patient = well()
    for look in (doctor_chain.daemon, doctor_chain.benchmark, doctor_chain.key, doctor_chain.clock):
        assert set(verdicts(await look(patient)).values()) == {"ok"}
    for look in (doctor_node.node, doctor_node.peers):
        assert set(verdicts(await look(patient)).values()) == {"ok"}


@pytest.mark.trio
@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"getblockchaininfo": ChainError("connection refused")}, "connection refused"),
        ({"getblockchaininfo": {"blocks": 5, "headers": 100}}, "not synced"),
        ({"getblockchaininfo": "hello"}, "not answer like"),
        ({"getinfo": {"connections": 1}}, "1 connections"),
    ],
)
async def test_daemons_that_are_ill(answers: dict[str, Any], said: str) -> None:
    patient = well()
    patient.daemon.answers |= answers  # type: ignore[attr-defined]
    assert said in bad(await doctor_chain.daemon(patient)).evidence


@pytest.mark.trio
@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"getbenchmarks": ChainError("connection refused")}, "connection refused"),
        ({"getbenchmarks": {"status": "failed", "error": "eps too low"}}, "failed: eps too low"),
        ({"getinfo": {"version": "1.0.0"}}, "is asked for"),
    ],
)
async def test_benchmarks_that_are_ill(answers: dict[str, Any], said: str) -> None:
    patient = well()
    patient.bench.answers |= answers  # type: ignore[attr-defined]
    found = bad(await doctor_chain.benchmark(patient))
    assert said in found.evidence
    assert found.verdict is Verdict.FAIL


@pytest.mark.trio
@pytest.mark.parametrize(
    ("status", "verdict"), [("STARTED", "warn"), ("EXPIRED", "fail"), ("DOS", "fail"), ("strange", "fail")]
)
async def test_confirmations(status: str, verdict: str) -> None:
    patient = well()
    patient.daemon.answers["getzelnodestatus"] = {"status": status}  # type: ignore[attr-defined]
    found = bad(await doctor_chain.key(patient))
    assert (found.name, found.verdict.value) == ("confirmation", verdict)


@pytest.mark.trio
async def test_a_key_that_is_not_listed_or_not_there() -> None:
    patient = well()
    patient.daemon.answers["viewdeterministiczelnodelist"] = []  # type: ignore[attr-defined]
    found = bad(await doctor_chain.key(patient))
    assert "not in the list of 0 nodes" in found.evidence
    assert KEY.wif not in found.evidence
    patient.key = None
    assert verdicts(await doctor_chain.key(patient)) == {"key": "skip"}


@pytest.mark.trio
@pytest.mark.parametrize(
    ("address", "said", "verdict"),
    [
        ("5.6.7.8:16137", "the API listens on 16127", "fail"),
        ("192.168.1.5", "not public", "fail"),
        ("9.9.9.9", "is listed at 5.6.7.8", "warn"),
        ("", "no address", "fail"),
    ],
)
async def test_addresses(address: str, said: str, verdict: str) -> None:
    patient = well()
    patient.bench.answers["getbenchmarks"] = {"ipaddress": address}  # type: ignore[attr-defined]
    found = bad(await doctor_chain.key(patient))
    assert (found.name, found.verdict.value) == ("address", verdict)
    assert said in found.evidence


@pytest.mark.trio
@pytest.mark.parametrize(
    ("block_age_s", "offsets_ms", "verdict"),
    [
        (20, [0, 100], "ok"),
        (-600, [0], "fail"),
        (20, [5000, 5100, 0], "warn"),
        (20, [-90_000, -91_000], "fail"),
        (7200, [], "warn"),
        (7200, [10], "ok"),
        (None, [], "skip"),
    ],
)
async def test_clocks(block_age_s: int | None, offsets_ms: list[int], verdict: str) -> None:
    patient = well()
    header = ChainError("no") if block_age_s is None else {"time": now_s() - block_age_s}
    patient.daemon.answers["getblockheader"] = header  # type: ignore[attr-defined]
    patient.peers = [{"remoteClockOffsetMs": offset} for offset in offsets_ms]
    assert verdicts(await doctor_chain.clock(patient)) == {"clock": verdict}


# ---- the node ------------------------------------------------------------------------------------------


@pytest.mark.trio
@pytest.mark.parametrize(
    ("change", "name", "verdict"),
    [
        ({"orchestrator": {"phase": "SYNCING", "waitsFor": ["peers"]}}, "node", "warn"),
        ({"node": {"dos": {"dosState": 100, "dosMessage": "x"}}}, "penalty", "fail"),
        ({"node": {"dos": {"dosState": 4, "dosMessage": None}}}, "penalty", "warn"),
        ({"loopLag": {"p99Ms": 900.0, "maxMs": 1000.0}}, "event loop", "warn"),
    ],
)
async def test_running_nodes_that_are_ill(change: dict[str, Any], name: str, verdict: str) -> None:
    patient = well()
    assert patient.status is not None
    patient.status |= change
    found = bad(await doctor_node.node(patient))
    assert (found.name, found.verdict.value) == (name, verdict)


@pytest.mark.trio
async def test_services_that_are_down() -> None:
    patient = well()
    assert patient.status is not None
    row = {"name": "peers", "state": "backoff", "essential": True, "crashes": 1, "lastError": "boom"}
    patient.status["services"].append(row)
    found = bad(await doctor_node.node(patient))
    assert (found.verdict, found.evidence) == (Verdict.FAIL, "peers backoff: boom")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("out", "inward", "verdict", "said"),
    [(0, 0, "fail", "alone"), (20, 0, "warn", "nobody reaches"), (2, 1, "warn", "few")],
)
async def test_peers(out: int, inward: int, verdict: str, said: str) -> None:
    patient = well()
    assert patient.status is not None
    patient.status["peers"] = {"outbound": out, "inbound": inward}
    found = bad(await doctor_node.peers(patient))
    assert found.verdict.value == verdict
    assert said in found.evidence


# ---- the machine ---------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_ports_that_are_free_ours_or_taken() -> None:
    patient = well()
    assert verdicts(await doctor_machine.ports(patient)) == {
        "API port": "ok",
        "home port": "ok",
        "sync port": "ok",
    }
    assert patient.status is not None
    patient.status["services"][0] |= {"state": "backoff", "lastError": "in use"}
    assert bad(await doctor_machine.ports(patient)).name == "home port"
    patient.status = None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        configured(patient, "node", bind_host="127.0.0.1", api_port=taken.getsockname()[1])
        found = bad(await doctor_machine.ports(patient))
    assert (found.name, found.verdict) == ("API port", Verdict.FAIL)
    assert "ss -ltnp" in found.remedy
    patient.foreign = True
    assert "something else answers" in bad(await doctor_machine.ports(patient)).evidence


@pytest.mark.trio
async def test_a_store_that_is_whole_or_broken(tmp_path: Path) -> None:
    patient = well()
    configured(patient, "node", data_dir=str(tmp_path))
    assert "first start makes one" in (await doctor_machine.store(patient))[0].evidence
    path = tmp_path / "events.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE rows (value TEXT)")
        database.executemany("INSERT INTO rows VALUES (?)", [("x" * 500,)] * 500)
    database.close()
    assert verdicts(await doctor_machine.store(patient)) == {"store": "ok"}
    content = bytearray(path.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    path.write_bytes(content)
    found = bad(await doctor_machine.store(patient))
    assert found.verdict is Verdict.FAIL
    assert "events.sqlite" in found.evidence


@pytest.mark.trio
async def test_the_database_server_as_the_node_sees_it() -> None:
    patient = well()
    configured(patient, "store", url="mongodb://127.0.0.1:1")
    assert patient.status is not None
    patient.status["store"] = {"connected": True, "server": "127.0.0.1:1", "lostForS": None}
    assert verdicts(await doctor_machine.store(patient)) == {"store": "ok"}
    patient.status["store"] |= {"connected": False, "lostForS": 7}
    assert "7 s" in bad(await doctor_machine.store(patient)).evidence


@pytest.mark.trio
async def test_the_data_folder_is_not_made_by_looking(tmp_path: Path) -> None:
    patient = well()
    configured(patient, "node", data_dir=str(tmp_path / "a" / "b"))
    assert verdicts(await doctor_machine.data_folder(patient)) == {"data folder": "ok"}
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240
    file = tmp_path / "file"
    file.write_text("")
    configured(patient, "node", data_dir=str(tmp_path))
    assert verdicts(await doctor_machine.data_folder(patient)) == {"data folder": "ok"}


@pytest.mark.trio
async def test_what_volumes_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    patient = well()
    assert verdicts(await doctor_machine.volumes(patient)) == {"volumes": "skip"}
    configured(patient, "hosting", engine="docker", apps_dir=str(tmp_path))
    disks = [DataVolume("/dev/sda1", "/data", 300 * GB, 100 * GB)]
    place = "trionode.containers.imagefiles.ImageFiles.data_volumes"
    monkeypatch.setattr(place, lambda self: tuple(disks))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(doctor_machine, "LOOP_CONTROL", tmp_path)
    monkeypatch.setattr("shutil.which", lambda tool: f"/sbin/{tool}")
    found = await doctor_machine.volumes(patient)
    assert set(verdicts(found).values()) == {"ok"}
    assert "300 GB free on /data, 20 GB are kept" in found[-1].evidence
    monkeypatch.setattr("shutil.which", lambda tool: None)
    monkeypatch.setattr(doctor_machine, "LOOP_CONTROL", tmp_path / "none")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    disks[0] = DataVolume("/dev/sda1", "/data", 15 * GB, 100 * GB)
    found = await doctor_machine.volumes(patient)
    assert verdicts(found) == dict.fromkeys(("volume tools", "rights", "loop devices", "app disk"), "fail")
    assert all(one.remedy for one in found)


def test_listening_ports_of_the_kernels_table() -> None:
    head = "  sl  local_address rem_address   st\n"
    rows = "   0: 0100007F:7918 00000000:0000 0A 00\n   1: 0100007F:1F90 00000000:0000 01 00\n"
    assert doctor_machine.listening_ports([head + rows, head]) == {31000}


# ---- the engine ----------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_the_engine_and_what_is_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    patient = well()
    assert verdicts(await doctor_docker.docker(patient)) == {"Docker": "skip"}
    configured(patient, "hosting", engine="docker")
    apps = HostedApps(SystemClock(), EventBus())
    await apps.add(composed("shop", "1O", "web"))

    @asynccontextmanager
    async def opened(url: str) -> Any:
        yield apps.engine

    monkeypatch.setattr(doctor_docker, "open_docker", opened)
    monkeypatch.setattr(doctor_docker, "proc_tables", list)
    assert verdicts(await doctor_docker.docker(patient)) == {
        "Docker": "ok",
        "storage driver": "ok",
        "restart policies": "ok",
        "app ports": "ok",
    }
    about = apps.engine.about
    apps.engine.about = msgspec.structs.replace(about, api_version="1.40", storage_driver="vfs")
    found = await doctor_docker.docker(patient)
    assert verdicts(found)["Docker"] == "fail"
    assert verdicts(found)["storage driver"] == "warn"
    apps.engine.about = about
    details = await apps.engine.inspect("fluxweb_shop")
    document = {**details.document, "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}}}

    async def inspect(container: str) -> Any:
        return msgspec.structs.replace(details, document=document)

    monkeypatch.setattr(apps.engine, "inspect", inspect)
    assert "fluxweb_shop (unless-stopped)" in bad(await doctor_docker.docker(patient)).evidence


@pytest.mark.trio
async def test_an_engine_that_is_away() -> None:
    patient = well()
    configured(patient, "hosting", engine="docker", engine_url="unix:///nowhere/docker.sock")
    found = bad(await doctor_docker.docker(patient))
    assert found.verdict is Verdict.FAIL
    assert isinstance(EngineUnreachable(""), HostError)


# ---- the command ---------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Global options of a node whose daemons do not run, on free ports."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for variable in ("TRIONODE_CONFIG", "TRIONODE_API", "FLUXD_CONFIG_PATH"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "node.key").write_text(KEY.wif)
    ports = []
    for _ in range(3):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    text = (
        f'[node]\nbind_host = "127.0.0.1"\napi_port = {ports[0]}\ndata_dir = "{tmp_path}"\n'
        f"[network]\nallowed_api_ports = [{ports[0]}]\n"
        f"[chain]\ndaemon_port = {ports[1]}\nbench_port = {ports[2]}\n"
    )
    (tmp_path / "trionode.toml").write_text(text)
    return ["--config", str(tmp_path / "trionode.toml")]


def test_a_stopped_node(alone: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*alone, "doctor", "--json"]) == exitcodes.FAILURE
    out = capsys.readouterr().out
    report = json.loads(out)
    found = {row["check"]: row for row in report["checks"]}
    assert report["healthy"] is False
    assert found["configuration"]["verdict"] == "ok"
    assert found["node"]["verdict"] == "skip"
    assert found["daemon"]["verdict"] == "fail"
    assert found["key file"]["remedy"].startswith("chmod 600")
    assert found["store"]["verdict"] == "ok"
    assert KEY.wif not in out
    assert call([*alone, "doctor"]) == exitcodes.FAILURE
    text = capsys.readouterr().out
    assert "FAIL  daemon" in text
    assert "-> " in text
    assert text.rstrip().endswith("well")


def test_a_configuration_that_cannot_be_read(
    alone: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trionode.toml").write_text('[node]\napi_prot = 1\nbind_host = "127.0.0.1"\n')
    assert call([*alone, "doctor"]) == exitcodes.FAILURE
    out = capsys.readouterr().out
    assert "FAIL  configuration" in out
    assert "api_prot" in out
