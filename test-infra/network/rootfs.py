"""The root file system of the network's container image: this Python, what trionode needs, and nothing else.

No base image and no package index is asked: the interpreter that runs this is copied with its standard
library, the installed distributions trionode requires, trionode itself, and the shared libraries all of these
are linked to.

    PYTHONPATH=test-infra python -m network.rootfs rootfs.tar
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import trionode

HOME = "opt/python"
PYTHON = f"/{HOME}/bin/python3"
LEFT_OUT = ("test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "site-packages")
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(.*)")
LINKED = re.compile(r"=> (/\S+)|^\s*(/\S+)")


def build(folder: Path) -> None:
    """Fill an empty folder. Raises OSError or CalledProcessError."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = folder / HOME
    (home / "bin").mkdir(parents=True)
    shutil.copy2(Path(sys.executable).resolve(), home / "bin" / version)
    (home / "bin" / "python3").symlink_to(version)
    ignored = shutil.ignore_patterns("__pycache__", "config-*", *LEFT_OUT)
    library = home / "lib" / version
    shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=ignored, symlinks=True)
    packages = library / "site-packages"
    packages.mkdir()
    for name in sorted(required("trionode")):
        _copy_distribution(name, packages)
    source = Path(trionode.__file__).parent
    shutil.copytree(source, packages / "trionode", ignore=shutil.ignore_patterns("__pycache__"))
    _copy_libraries(folder)
    _make_surroundings(folder)


def required(name: str) -> set[str]:
    """The distributions `name` needs to run, without itself; those not installed do not apply here."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        try:
            requirements = metadata.requires(waiting.pop()) or []
        except metadata.PackageNotFoundError:
            continue
        for requirement in requirements:
            match = REQUIREMENT.match(requirement)
            if match is None or "extra ==" in match[2]:
                continue
            wanted = match[1].lower().replace("_", "-")
            if wanted not in found:
                found.add(wanted)
                waiting.append(wanted)
    return {one for one in found if _is_installed(one)}


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _copy_distribution(name: str, packages: Path) -> None:
    distribution = metadata.distribution(name)
    for file in distribution.files or []:
        if ".." in file.parts or "__pycache__" in file.parts:
            continue  # scripts and caches
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(str(distribution.locate_file(file))), target)


def _copy_libraries(folder: Path) -> None:
    """The system's shared libraries that binaries in `folder` are linked to, where these look for them."""
    pending = [path for path in folder.rglob("*") if _is_binary(path)]
    seen: set[str] = set()
    while pending:
        for library in _linked_to(pending.pop()):
            if library in seen or library.startswith(str(folder)):
                continue
            seen.add(library)
            target = folder / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(library).resolve(), target)
            pending.append(target)


def _is_binary(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as content:
        return content.read(4) == b"\x7fELF"


def _linked_to(binary: Path) -> Iterator[str]:
    shown = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
    for line in shown.splitlines():
        match = LINKED.search(line)
        if match is not None:
            yield match[1] or match[2]


def _make_surroundings(folder: Path) -> None:
    for name in ("etc", "tmp", "proc", "dev", "sys", "root", "node", "network"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    (folder / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/false\n", "ascii")
    (folder / "etc" / "group").write_text("root:x:0:\n", "ascii")
    (folder / "etc" / "nsswitch.conf").write_text("hosts: files dns\n", "ascii")


def main() -> int:
    """Command line: write the file system as a tar file."""
    parser = argparse.ArgumentParser(prog="python -m network.rootfs", description=build.__doc__)
    parser.add_argument("tar", type=Path, help="the file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "rootfs"
        folder.mkdir()
        build(folder)
        with tarfile.open(arguments.tar, "w") as tar:
            tar.add(folder, arcname=".", filter=_owned_by_root)
    print(f"{arguments.tar}: {os.path.getsize(arguments.tar) / 1e6:.0f} MB")
    return 0


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


if __name__ == "__main__":
    sys.exit(main())
