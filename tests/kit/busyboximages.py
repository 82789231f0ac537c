"""Tiny images (< 2 MB) made of Debian's static busybox, for tests on a real engine.

`import_image(api, tag, ...)` puts one into an engine; `root_tar(...)` is the same file system as bytes.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec
from engineapi import EngineApi

APPLETS = tuple(
    # Words are easier to read here than forty strings.
    """
    sh ash cat chmod cp date dd df echo env false free grep head hostname httpd id ifconfig ip kill ln ls
    mkdir mount mv nc netstat nslookup ping printf ps pwd rm sed sleep stat sync tail tee test touch tr true
    tty uname wc wget whoami yes
    """.split()  # noqa: SIM905
)

PATIENT = "/bin/patient"
"""An entry point: runs its words and ends at once on SIGTERM (a bare `sleep` as process 1 would not).

Before its first line is run the kernel drops the signal: whoever stops a container right after its start, and
wants to see the end of a patient one, waits until `EngineApi.heeds_sigterm`.
"""
PATIENT_SCRIPT = """#!/bin/sh
child=
trap '[ -z "$child" ] || kill $child 2>/dev/null; exit 0' TERM INT
"$@" &
child=$!
wait $child
"""

WEB = ["/bin/sh", "-c", "exec httpd -f -p ${PORT:-80} -h /www"]
"""Serves /www on port $PORT (80); /www/index.html says `hello`."""
SLEEP = ["sleep", "100000"]
STEADY = ["/bin/sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 1; done"]
"""Writes a line each second."""
CRASH = ["/bin/sh", "-c", "echo about to fail; exit 3"]


def busybox() -> bytes:
    """Debian's static busybox."""
    path = shutil.which("busybox")
    assert path is not None, "busybox is missing (Debian: apt-get install busybox-static)"
    content = Path(path).read_bytes()
    assert b"ld-linux" not in content[:4096], f"{path} needs shared libraries: install busybox-static"
    return content


def layer_tar(files: Mapping[str, str | bytes], *, executable: Sequence[str] = ()) -> bytes:
    """A tar of these files (absolute paths); equal input gives equal bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size = len(data)
            entry.mode = 0o755 if path in executable else 0o644
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@cache
def _base() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("bin", "etc", "tmp", "www", "data"):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        program = busybox()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size = len(program)
        entry.mode = 0o755
        tar.addfile(entry, io.BytesIO(program))
        for name in APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type = tarfile.SYMTYPE
            entry.linkname = "busybox"
            tar.addfile(entry)
    return out.getvalue()


def root_tar(files: Mapping[str, str | bytes] | None = None, *, executable: Sequence[str] = ()) -> bytes:
    """The file system of an image: busybox, its commands, `/bin/patient`, `/www`, and `files`."""
    content: dict[str, str | bytes] = {
        PATIENT: PATIENT_SCRIPT,
        "/etc/passwd": "root:x:0:0:root:/:/bin/sh\n",
        "/etc/group": "root:x:0:\n",
        "/www/index.html": "hello\n",
        **(files or {}),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for part in (_base(), layer_tar(content, executable=(PATIENT, *executable))):
            with tarfile.open(fileobj=io.BytesIO(part)) as from_tar:
                for entry in from_tar:
                    tar.addfile(entry, from_tar.extractfile(entry) if entry.isreg() else None)
    return out.getvalue()


def import_image(
    api: EngineApi,
    tag: str,
    *,
    cmd: Sequence[str] = tuple(SLEEP),
    entrypoint: Sequence[str] = (PATIENT,),
    expose: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    healthcheck: str | None = None,
    health_options: str = "--interval=1s --timeout=60s --retries=1",
    files: Mapping[str, str | bytes] | None = None,
    executable: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> str:
    """Makes the image `name:version` in the engine; returns its id.

    `healthcheck` is a shell command (healthy when it ends with 0); `changes` are more Dockerfile lines.
    """
    repository, _, version = tag.rpartition(":")
    lines = [f"ENTRYPOINT {msgspec.json.encode(list(entrypoint)).decode()}"] if entrypoint else []
    lines.append(f"CMD {msgspec.json.encode(list(cmd)).decode()}")
    lines += [f"EXPOSE {port}" for port in expose]
    lines += [f"ENV {name}={value}" for name, value in (env or {}).items()]
    if healthcheck is not None:
        lines.append(f"HEALTHCHECK {health_options} CMD {healthcheck}")
    lines += changes
    query: dict[str, str | list[str]] = {"fromSrc": "-", "repo": repository, "tag": version, "changes": lines}
    body = root_tar(files, executable=executable)
    answers = api.stream("POST", "/images/create", query, body=body)
    made: str = answers[-1]["status"]
    return made
