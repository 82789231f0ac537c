"""systemd units that mount volumes (docs/spec/lifecycle.md §12 "Volume")."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.plans.mountunits import MountUnit, escaped, read_unit

UNIT = MountUnit("fluxweb_shop", "/data/fluxweb_shopFLUXFSVOL", "/srv/my-apps/fluxweb_shop")
SYSTEMD = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def test_its_name_is_the_mount_point() -> None:
    assert UNIT.file_name == "srv-my\\x2dapps-fluxweb_shop.mount"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "-"),
        ("/a/b", "a-b"),
        ("/a//b/", "a-b"),
        ("/.a/.b", "\\x2ea-.b"),
        ("/ü", "\\xc3\\xbc"),
        ("/a b", "a\\x20b"),
    ],
)
def test_paths_as_systemd_writes_them(path: str, name: str) -> None:
    assert escaped(path) == name


@SYSTEMD
@pytest.mark.process
def test_systemd_writes_them_so_too() -> None:
    for path in ("/srv/my-apps/fluxweb_shop", "/.hidden/a@b:c", "/data/x+y=z,1"):
        told = subprocess.run(["systemd-escape", "--path", path], capture_output=True, text=True, check=True)
        assert escaped(path) == told.stdout.strip()


def test_it_waits_for_its_disk_and_comes_before_the_engine() -> None:
    lines = UNIT.text().splitlines()
    assert "RequiresMountsFor=/data" in lines
    assert "Before=docker.service" in lines
    assert "What=/data/fluxweb_shopFLUXFSVOL" in lines
    assert "Where=/srv/my-apps/fluxweb_shop" in lines
    assert "Options=loop,nofail" in lines


@given(
    st.from_regex(r"flux[A-Za-z0-9_]{1,20}", fullmatch=True),
    st.from_regex(r"(/[A-Za-z0-9_.+%-]{1,9}){1,4}", fullmatch=True),
)
def test_a_unit_is_read_as_it_was_written(name: str, folder: str) -> None:
    unit = MountUnit(name, f"{folder}/{name}FLUXFSVOL", f"{folder}/apps/{name}")
    assert read_unit(unit.text()) == unit


@pytest.mark.parametrize(
    "text", ["", "[Mount]\nWhat=/dev/sda1\nWhere=/data\n", "[Mount]\nWhat=/aFLUXFSVOL\n"]
)
def test_other_units_are_none_of_ours(text: str) -> None:
    assert read_unit(text) is None


@SYSTEMD
@pytest.mark.process
def test_systemd_finds_no_fault_in_it(tmp_path: Path) -> None:
    path = tmp_path / UNIT.file_name
    path.write_text(UNIT.text())
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    ours = [line for line in told.stderr.splitlines() if "fluxweb_shop" in line]
    assert ours == []
