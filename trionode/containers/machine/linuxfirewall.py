"""LinuxFirewall: ports through ufw where it is active, private ranges through iptables.

Facts: docs/spec/lifecycle.md §1 (boot), §12, §18. Without an active ufw every port is open already. What it
writes is its own chain, whole, each time: said twice it is the same, and a killed node leaves no half of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import trio

from trionode.containers.disk import FirewallError
from trionode.containers.machine.commands import CommandError, ProgramMissing, Run, SystemRun, must
from trionode.plans.ports import LAST_PORT
from trionode.plans.privateranges import CHAIN, guard_chain, is_interface, private_name_servers

ENGINE_CHAIN = "DOCKER-USER"
"""Where the engine looks before its own rules, and never changes anything."""
FORWARD = "FORWARD"
RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""Name servers are in the second one where the first names a resolver of the machine itself."""
ACTIVE = "Status: active"


class LinuxFirewall:
    """`Firewall` of this machine. Needs root. There is no UPnP: see docs/containers-disk.md."""

    def __init__(self, *, run: Run | None = None, resolvers: Sequence[str] = RESOLVERS) -> None:
        self._run: Run = run if run is not None else SystemRun(60.0)
        self._resolvers = tuple(resolvers)
        self._lock = trio.Lock()

    async def allow(self, port: int, *, app: str) -> None:
        """See `Firewall.allow`."""
        _must_be_port(port)
        async with self._lock:
            await self._ufw(f"opening port {port}", "allow", str(port))

    async def forget(self, port: int, *, app: str) -> None:
        """See `Firewall.forget`."""
        _must_be_port(port)
        async with self._lock:
            await self._ufw(f"closing port {port}", "delete", "allow", str(port))

    async def missing(self, ports: Sequence[int]) -> Sequence[int]:
        """See `Firewall.missing`; one question for all of them."""
        async with self._lock:
            try:
                status = await must(self._run, "ufw", "status")
            except ProgramMissing:
                return []
            except CommandError as error:
                raise FirewallError(
                    f"which ports are open is not known: {error}", remedy="see what `ufw status` says"
                ) from error
        if ACTIVE not in status.splitlines():
            return []
        is_open = {int(found.group(1)) for found in _OPEN.finditer(status)}
        return [port for port in ports if port not in is_open]

    async def guard_private(self, interfaces: Sequence[str]) -> None:
        """See `Firewall.guard_private`."""
        wrong = next((name for name in interfaces if not is_interface(name)), None)
        if wrong is not None:
            raise FirewallError(f"{wrong!r} is no name of a network interface")
        rules = guard_chain(interfaces, await self._name_servers())
        async with self._lock:
            try:
                await must(self._run, "iptables-restore", "--wait", "--noflush", given=rules)
                await self._jump()
            except CommandError as error:
                raise _guard_problem(error) from error

    async def unguard(self) -> None:
        """See `Firewall.unguard`."""
        async with self._lock:
            try:
                for chain in (ENGINE_CHAIN, FORWARD):
                    await self._remove_jumps(chain)
                if await self._succeeds("-S", CHAIN):
                    await must(self._run, "iptables", "--wait", "-F", CHAIN)
                    await must(self._run, "iptables", "--wait", "-X", CHAIN)
            except ProgramMissing:
                return  # without iptables there is no rule of ours
            except CommandError as error:
                raise _guard_problem(error) from error

    async def _jump(self) -> None:
        """The chain is looked at first of all. An engine that runs without its own chain gets it in front."""
        has_engine = await self._succeeds("-S", ENGINE_CHAIN)
        place, other = (ENGINE_CHAIN, FORWARD) if has_engine else (FORWARD, None)
        if not await self._succeeds("-C", place, "-j", CHAIN):
            await must(self._run, "iptables", "--wait", "-I", place, "1", "-j", CHAIN)
        if other is not None:
            await self._remove_jumps(other)

    async def _remove_jumps(self, chain: str) -> None:
        while await self._succeeds("-C", chain, "-j", CHAIN):
            await must(self._run, "iptables", "--wait", "-D", chain, "-j", CHAIN)

    async def _succeeds(self, *words: str) -> bool:
        return (await self._run("iptables", "--wait", *words)).status == 0

    async def _ufw(self, what: str, *words: str) -> None:
        """ufw lets pass what is so already, and turns a denial of the port into its opposite."""
        try:
            status = await must(self._run, "ufw", "status")
            if ACTIVE in status.splitlines():
                await must(self._run, "ufw", *words)
        except ProgramMissing:
            return  # no firewall, every port is open
        except CommandError as error:
            raise FirewallError(f"{what} failed: {error}", remedy="see what `ufw status` says") from error

    async def _name_servers(self) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for resolver in self._resolvers:
            try:
                text = await trio.to_thread.run_sync(Path(resolver).read_text)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise FirewallError(f"{resolver} cannot be read: {error}") from error
            found.update(dict.fromkeys(private_name_servers(text)))
        return tuple(found)


_OPEN = re.compile(r"^(\d+)[ \t]+ALLOW(?:[ \t]+IN)?[ \t]+Anywhere[ \t]*(?:#.*)?$", re.MULTILINE)
"""A line of `ufw status`: a port, tcp and udp, from anywhere."""


def _must_be_port(port: int) -> None:
    if not 0 < port <= LAST_PORT:
        raise FirewallError(f"{port} is no port")


def _guard_problem(error: CommandError) -> FirewallError:
    return FirewallError(
        f"the rules that keep apps out of private networks could not be changed: {error}",
        remedy=error.remedy or "see what `iptables -S` says; the node must run as root",
    )
