"""The kernel's table of mounts, and which disks may hold volumes (docs/spec/lifecycle.md §12 "Volume")."""

from __future__ import annotations

from pathlib import Path

import pytest

from trionode.containers.machine.mounts import (
    at,
    below,
    data_mounts,
    is_hidden,
    last_mounted_ms,
    loops,
    read_table,
)

TABLE = r"""
20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
21 20 8:2 / /boot rw,relatime shared:2 - ext4 /dev/sda2 rw
22 20 8:3 / /boot/efi rw,relatime shared:3 - vfat /dev/sda3 rw
23 20 8:16 / /data\040disk rw,relatime shared:4 - xfs /dev/sdb rw
24 20 8:16 / /again rw,relatime shared:4 - xfs /dev/sdb rw
25 20 8:1 /etc/hosts /srv/hosts rw,relatime shared:1 - ext4 /dev/sda1 rw
26 20 7:0 / /snap/core ro,relatime shared:5 - squashfs /dev/loop0 ro
27 20 7:1 / /srv/apps/fluxa rw,relatime shared:6 - ext4 /dev/loop1 rw
28 27 0:30 / /srv/apps/fluxa/appdata rw,relatime master:9 - tmpfs none rw
29 20 8:32 / /readonly rw,relatime shared:7 - ext4 /dev/sdc ro
30 20 253:0 / /lvm rw,relatime shared:8 - ext4 /dev/mapper/vg-lv rw
31 20 0:5 / /proc rw shared:9 - proc proc rw
a line that is none
"""


def test_disks_count_once_and_loops_and_boot_do_not() -> None:
    found = data_mounts(read_table(TABLE), "/srv/apps")
    assert [(disk.point, disk.source) for disk in found] == [
        ("/", "/dev/sda1"),
        ("/data disk", "/dev/sdb"),
        ("/lvm", "/dev/mapper/vg-lv"),
    ]


def test_a_root_on_a_loop_device_counts() -> None:
    table = read_table("20 1 7:0 / / rw,relatime - ext4 /dev/loop0 rw\n")
    assert [disk.point for disk in data_mounts(table, "/srv/apps")] == ["/"]


def test_what_is_seen_is_the_mount_on_top() -> None:
    table = read_table(
        "20 1 7:0 / /a rw - ext4 /dev/loop0 rw\n21 20 7:1 / /a rw - ext4 /dev/loop1 rw\n"
        "22 21 7:2 / /a/b rw - ext4 /dev/loop2 rw\n23 1 7:3 / /ab rw - ext4 /dev/loop3 rw\n"
    )
    on_top = at("/a", table)
    assert on_top is not None
    assert on_top.source == "/dev/loop1"
    assert at("/c", table) is None
    assert [mount.source for mount in below("/a", table)] == ["/dev/loop2", "/dev/loop1", "/dev/loop0"]


@pytest.mark.parametrize(("field", "hidden"), [("shared:1", False), ("", False)])
def test_what_is_mounted_in_no_copy_is_seen_by_all(field: str, hidden: bool) -> None:
    table = read_table(f"20 1 8:1 / / rw {field} - ext4 /dev/sda1 rw\n".replace("  ", " "))
    assert is_hidden("/srv/apps", table) is hidden


def test_loop_devices_are_told_with_their_files(tmp_path: Path) -> None:
    for device, file in (("loop0", "/data/a"), ("loop1", "/data/b (deleted)")):
        folder = tmp_path / device / "loop"
        folder.mkdir(parents=True)
        (folder / "backing_file").write_text(f"{file}\n")
    (tmp_path / "loop2").mkdir()
    assert loops(str(tmp_path)) == {"/dev/loop0": "/data/a", "/dev/loop1": "/data/b"}


@pytest.mark.parametrize("content", [b"", b"\0" * 4096])
def test_a_file_without_a_file_system_was_never_mounted(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "image"
    file.write_bytes(content)
    assert last_mounted_ms(str(file)) is None
