"""`trionode doctor` on machine and engine, and the command itself (docs/cli.md)."""

from __future__ import annotations

import errno
import json
import os
import socket
import sqlite3
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hostedapps import HostedApps, composed
from patients import KEY, bad, configured, verdicts, well

from trionode.cli import doctor_docker, doctor_machine, exitcodes
from trionode.cli.doctor_report import Verdict
from trionode.cli.main import call
from trionode.containers.engine import EngineUnreachable
from trionode.errors import HostError
from trionode.plans.volumes import GB, DataVolume
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import SystemClock

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
        taken.bind(("127.78.0.34", 0))
        taken.listen()
        configured(patient, "node", bind_host="127.78.0.34", api_port=taken.getsockname()[1])
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
    said = {"kind": "MongoDB", "server": "127.0.0.1:1", "readable": True, "lostForS": None}
    patient.status["store"] = said | {"connected": True}
    assert verdicts(await doctor_machine.store(patient)) == {"store": "ok"}
    patient.status["store"] = AWAY | {"kind": "MongoDB", "server": "127.0.0.1:1", "readable": False}
    found = bad(await doctor_machine.store(patient))
    assert found.evidence == "MongoDB at 127.0.0.1:1 does not answer, for 7 s: database or disk is full"


AWAY = {
    "kind": "SQLite",
    "server": "/data",
    "connected": False,
    "readable": True,
    "lostForS": 7.0,
    "problem": "database or disk is full",
    "remedy": "free some space",
}


@pytest.mark.trio
async def test_a_full_disk_as_the_node_sees_it(tmp_path: Path) -> None:
    patient = well()
    configured(patient, "node", data_dir=str(tmp_path))
    assert patient.status is not None
    patient.status["store"] = AWAY
    found = bad(await doctor_machine.store(patient))
    assert found.verdict is Verdict.FAIL
    assert found.evidence == "SQLite in /data cannot be written, for 7 s: database or disk is full"
    assert found.remedy == "free some space"


@pytest.mark.trio
async def test_a_data_folder_without_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = well()
    configured(patient, "node", data_dir=str(tmp_path))

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    found = bad(await doctor_machine.data_folder(patient))
    assert found.verdict is Verdict.FAIL
    assert "free some space" in found.remedy


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
    place = "trionode.containers.machine.imagefiles.ImageFiles.data_volumes"
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
        f'[node]\nbind_host = "127.78.0.34"\napi_port = {ports[0]}\ndata_dir = "{tmp_path}"\n'
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
