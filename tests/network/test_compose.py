"""The compose files: current, well-formed, with the addresses of the spec; the image holds what it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from network import compose_files, rootfs

from trionode.config.load import load
from trionode.devnet.layout import API_PORT

IMAGE = "trionode-network:test"


def parsed(name: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return dict(yaml.safe_load((compose_files.FOLDER / name / "compose.yaml").read_text("utf-8")))


@pytest.mark.parametrize(("name", "nodes"), compose_files.SIZES.items())
def test_the_files_are_those_the_module_writes(name: str, nodes: int) -> None:
    kept = (compose_files.FOLDER / name / "compose.yaml").read_text("utf-8")
    assert kept == compose_files.compose_text(name, nodes), "run `python -m network.compose_files write`"


@pytest.mark.parametrize(("name", "nodes"), compose_files.SIZES.items())
def test_they_describe_the_network(name: str, nodes: int) -> None:
    services = parsed(name)["services"]
    assert set(services) == {"daemon-stub", "services-stub", *(f"node{n}" for n in range(1, nodes + 1))}
    addresses = [service["networks"]["test"]["ipv4_address"] for service in services.values()]
    assert len(set(addresses)) == len(addresses)
    for number in range(1, nodes + 1):
        node = services[f"node{number}"]
        assert node["image"] == compose_files.IMAGE
        assert node["networks"]["test"]["ipv4_address"] == f"198.18.{number}.0"
        assert node["command"][:2] == ["trionode", "--config"]
        assert node["depends_on"] == {"daemon-stub": {"condition": "service_healthy"}}
        assert node["volumes"] == ["${NETWORK_DIR:-./network}:/network"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(set(ports)) == nodes
    assert parsed(name)["networks"]["test"]["ipam"]["config"][0]["subnet"] == "198.18.0.0/16"


def test_the_prepared_folder_has_settings_that_load(tmp_path: Path) -> None:
    layout = compose_files.prepare(tmp_path / "network", 3)
    for place in layout.nodes:
        settings = load([place.config], {}, {}).settings
        assert settings.node.bind_host == f"198.18.{place.number}.0"
        assert settings.node.api_port == API_PORT
        assert settings.node.data_dir == f"/network/node{place.number}/data"
        assert settings.chain.daemon_host == compose_files.DAEMON_IP
        assert place.boot_id.read_text("ascii").strip()
    assert layout.node_list.exists()


def test_docker_compose_accepts_them() -> None:
    if shutil.which("docker") is None or _docker("compose", "version").returncode != 0:
        pytest.skip("no docker compose on this machine")
    for name in compose_files.SIZES:
        checked = _docker("compose", "--file", str(compose_files.FOLDER / name / "compose.yaml"), "config")
        assert checked.returncode == 0, checked.stderr


@pytest.mark.process
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="changing the root needs root on Linux"
)
def test_the_root_file_system_is_whole(tmp_path: Path) -> None:
    """Everything a node, a stand-in and a healthcheck load is in it, without any of this machine's files."""
    rootfs.build(tmp_path)
    wanted = "import trionode.process, trionode.sim.stub_server, trionode.sim.stub_services, sqlite3, ssl"
    for words in (["-m", "trionode", "version"], ["-c", f"{wanted}, urllib.request"]):
        done = subprocess.run(
            ["chroot", str(tmp_path), rootfs.PYTHON, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.process
@pytest.mark.timeout(900)
def test_the_image_builds_and_runs() -> None:
    if shutil.which("docker") is None or _docker("info").returncode != 0:
        pytest.skip("no Docker engine runs on this machine")
    build = compose_files.FOLDER / "image" / "build"
    environment = {**os.environ, "PYTHON": sys.executable, "IMAGE": IMAGE}
    subprocess.run([str(build)], env=environment, check=True)
    try:
        done = _docker("run", "--rm", IMAGE, "trionode", "version")
        assert "trionode" in done.stdout, done.stderr
    finally:
        _docker("image", "rm", IMAGE)


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=300)
