"""What the engine node of a network stands on: a container engine and an image registry (testnet.md §1).

Both are processes in the network's namespace, so that published ports and app networks are where the nodes
are. Mounts are not apart from anything: node and engine see the same ones. Sockets of the engine are files,
so it is asked from anywhere. All calls block, most of them for moments only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trio

from network.namespace import Namespace
from network.node import LOOK_EVERY_S, PATIENCE
from trionode.containers.machine.bootmounts import CRONTAB_LOCK

SETTLES_WITHIN_S = 60.0
OF_THE_NODE = "TRIONODE-PRIVATE"
"""Its firewall chain: there as long as the machine is."""
APP_PORTS = "30000-39999"
RESERVED_PORTS = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
OF_THE_MACHINE = ("crontab line", "mount unit")
"""Kinds of things that others on this machine have too: only what names our folder counts."""


PROGRAMS = ("dockerd", "docker", "docker-registry", "busybox", "mkfs.ext4", "iptables", "crontab", "ip")


def why_not() -> str | None:
    """Why there can be none on this machine, None when there can."""
    if os.geteuid() != 0:
        return "dockerd, mounts and namespaces need root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)} (docs/testing-containers.md)" if missing else None


class EngineRoom:
    """The engine of one network. `folder`: where everything of its nodes lies."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        # The kit is on the path where tests run; the files for Docker Compose are made without it.
        from dockerengine import DockerEngine

        self._namespace = namespace
        self._nodes = folder
        # Paths of unix sockets are short.
        self._folder = Path(tempfile.mkdtemp(prefix="tt-", dir="/tmp"))
        self.docker = DockerEngine(self._folder / "engine")
        self._registry = ExitStack()
        self._port: int | None = None
        self._before: Any = None

    @property
    def url(self) -> str:
        return self.docker.at.url

    @property
    def api(self) -> Any:
        """A client of the engine that knows nothing of nodes (`tests/kit/engineapi.py`)."""
        return self.docker.api

    # --- the processes --------------------------------------------------------------------------

    def open(self) -> None:
        """Start both."""
        self._keep_ports_free()
        self.start_registry()
        self.start()
        self._before = self._look()

    def start(self) -> None:
        with self._namespace.entered():
            self.docker.start()

    def _keep_ports_free(self) -> None:
        # The kernel takes the ports of outgoing connections from where apps have theirs, too.
        with self._namespace.entered():
            RESERVED_PORTS.write_text(APP_PORTS, "ascii")

    def halt(self) -> None:
        """End dockerd in order, as `systemctl stop docker`: its containers end too."""
        self.docker.halt()

    def kill(self) -> None:
        """kill -9 of dockerd: its containers run on."""
        self.docker.kill()

    def reboot(self) -> None:
        """What a reboot of the machine does to it: all containers end, no volume is mounted any more."""
        self.halt()
        self._unmount()
        self.start()

    def refuse(self, port: int) -> None:
        """From now on nobody reaches this port; a rule of the machine's own firewall."""
        self._iptables("-I", "INPUT", "-p", "tcp", "--dport", str(port), "-j", "REJECT")

    def allow(self, port: int) -> None:
        """End that."""
        self._iptables("-D", "INPUT", "-p", "tcp", "--dport", str(port), "-j", "REJECT")

    def _iptables(self, *words: str) -> None:
        with self._namespace.entered():
            subprocess.run(["iptables", "-w", *words], check=True, capture_output=True)

    def ps(self) -> dict[str, str]:
        """What `docker ps --all` says: names and states."""
        words = ["docker", "-H", self.url, "ps", "--all", "--format", "{{.Names}} {{.State}}"]
        lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
        return dict(line.split() for line in lines)

    def start_registry(self) -> None:
        """The same port again brings back what it had."""
        from imageregistry import running_registry

        with self._namespace.entered():
            block = running_registry(self._folder / "registry", port=self._port)
            self.registry = self._registry.enter_context(block)
        self._port = self.registry.port

    def stop_registry(self) -> None:
        self._registry.close()

    def close(self) -> None:
        """End both and take away everything they and the nodes' apps made of this machine."""
        try:
            with self._namespace.entered():
                self.docker.remove()
        finally:
            self.stop_registry()
            self._unmount()
            self._clean_crontab()
            shutil.rmtree(self._folder, ignore_errors=True)

    # --- images and containers ------------------------------------------------------------------

    async def publish(self, name: str, marker: str = "1", **image: Any) -> str:
        """Push a busybox image as `name:tag`; its digest. Another marker, another digest."""

        def push() -> str:
            return str(self.registry.publish(self.api, name, marker, **image))

        return await trio.to_thread.run_sync(push)

    def image(self, name: str) -> str:
        """`name:tag` with the address of the registry, as specifications name it."""
        return str(self.registry.image(name))

    def row(self, container: str) -> dict[str, Any] | None:
        """What the engine knows of a container, None when there is none of that name."""
        from engineapi import EngineAnswerError

        try:
            return dict(self.api.inspect(container))
        except EngineAnswerError as error:
            if error.status == 404:
                return None
            raise

    def run_id(self, container: str) -> tuple[str, str] | None:
        """Id and start of a container that runs now, None when it does not."""
        row = self.row(container)
        return None if row is None or not row["State"]["Running"] else (row["Id"], row["State"]["StartedAt"])

    async def up(
        self, container: str, *, within_s: float, other_than: tuple[str, str] | None = None
    ) -> tuple[str, str]:
        """Wait until it runs, in another run than the one named; its `run_id`."""
        found: tuple[str, str] | None = None
        with trio.move_on_after(within_s * PATIENCE):
            while True:
                found = self.run_id(container)
                if found is not None and found != other_than:
                    return found
                await trio.sleep(LOOK_EVERY_S)
        raise AssertionError(
            f"{container} did not come up within {within_s:g} s (last {found}); there are "
            f"{sorted(self.api.container_names())}\n{self.docker.at.log_tail()}"
        )

    def digests(self, container: str) -> set[str]:
        """The digests by which the image that a container was made of is known."""
        row = self.row(container)
        assert row is not None, f"there is no {container}"
        image = self.api.call("GET", f"/images/{row['Image']}/json")
        return {str(name).partition("@")[2] for name in image.get("RepoDigests") or ()}

    # --- what is left behind ----------------------------------------------------------------------

    def left_behind(self) -> list[str]:
        """What is there now and was not before any app was, or the other way; [] is good.

        Containers, networks, volumes, mounts, loop devices, firewall rules, lines of the crontab, units.
        """
        deadline = time.monotonic() + SETTLES_WITHIN_S
        # The kernel lets go of a loop device a little after its mount.
        while (left := self._difference()) and time.monotonic() < deadline:
            if not all(line.startswith("left: loop") for line in left):
                break
            time.sleep(LOOK_EVERY_S)
        return left

    def _difference(self) -> list[str]:
        from leaks import difference

        lines = difference(self._before, self._look())
        return [line for line in lines if OF_THE_NODE not in line and self._is_ours(line)]

    def _is_ours(self, line: str) -> bool:
        kind = line.partition(": ")[2]
        return not kind.startswith(OF_THE_MACHINE) or str(self._nodes) in line

    def _look(self) -> Any:
        from leaks import snapshot

        with self._namespace.entered():
            seen = snapshot(self.api, folders=[self._nodes, self._folder])
        # An engine that starts again makes its own networks anew.
        seen.found["network"] = [line.split()[0] for line in seen.found["network"]]
        return seen

    def _unmount(self) -> None:
        """Volumes of apps that a failed test left."""
        points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for point in points:
            if point.startswith(f"{self._nodes}/"):
                subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)

    def _clean_crontab(self) -> None:
        """Lines that mount them at the next boot."""
        with Path(CRONTAB_LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            listed = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False).stdout
            kept = [line for line in listed.splitlines(keepends=True) if str(self._nodes) not in line]
            if kept != listed.splitlines(keepends=True):
                subprocess.run(["crontab", "-"], input="".join(kept), text=True, check=True)
