"""Ports and private ranges at the firewall of a machine (docs/spec/lifecycle.md §1, §12, §18)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio

from trionode.containers.disk import FirewallError
from trionode.containers.machine.commands import Done, ProgramMissing, SystemRun
from trionode.containers.machine.linuxfirewall import LinuxFirewall
from trionode.plans.privateranges import CHAIN

LISTEN = """
import socket, sys, selectors
chosen = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    chosen.register(socket.create_server(("0.0.0.0", port), backlog=50), selectors.EVENT_READ)
print("there", flush=True)
while True:
    for key, _ in chosen.select():
        key.fileobj.accept()[0].close()
"""
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60).close()
    print("reached")
except OSError as error:
    print("refused" if isinstance(error, ConnectionRefusedError) else "silence")
"""


class Ufw:
    """A made-up ufw. `active`: None where it is not installed."""

    def __init__(self, active: bool | None) -> None:
        self.active = active
        self.changes: list[tuple[str, ...]] = []
        self.status = 0
        self.rules = ""

    async def __call__(self, *words: str, given: str = "", holding: Sequence[int] = ()) -> Done:
        await trio.lowlevel.checkpoint()
        if self.active is None:
            raise ProgramMissing("the command ufw is not there")
        if words == ("ufw", "status"):
            status = f"Status: {'active' if self.active else 'inactive'}\n\nTo  Action  From\n"
            return Done(0, status + self.rules)
        self.changes.append(words)
        return Done(self.status, "", "ERROR: problem running")


@pytest.mark.trio
async def test_ports_are_opened_and_closed_at_an_active_ufw() -> None:
    ufw = Ufw(active=True)
    firewall = LinuxFirewall(run=ufw)
    await firewall.allow(31000, app="shop")
    await firewall.forget(31000, app="shop")
    assert ufw.changes == [
        ("ufw", "allow", "31000"),
        ("ufw", "delete", "allow", "31000"),
    ]


@pytest.mark.trio
@pytest.mark.parametrize("active", [False, None])
async def test_without_an_active_ufw_every_port_is_open_already(active: bool | None) -> None:
    ufw = Ufw(active)
    firewall = LinuxFirewall(run=ufw)
    await firewall.allow(31000, app="shop")
    await firewall.forget(31000, app="shop")
    assert ufw.changes == []


RULES = """
31000                      ALLOW       Anywhere
31001/tcp                  ALLOW       Anywhere
31002                      DENY        Anywhere
31003                      ALLOW       192.0.2.7
31004                      ALLOW IN    Anywhere                   # by hand
31005 (v6)                 ALLOW       Anywhere (v6)
"""


@pytest.mark.trio
async def test_which_ports_are_open() -> None:
    ufw = Ufw(active=True)
    ufw.rules = RULES
    firewall = LinuxFirewall(run=ufw)
    assert await firewall.missing(range(31000, 31007)) == [31001, 31002, 31003, 31005, 31006]
    ufw.active = False
    assert await firewall.missing([31002]) == []
    ufw.active = None
    assert await firewall.missing([31002]) == []
    assert ufw.changes == []


@pytest.mark.trio
async def test_a_ufw_that_refuses_is_a_problem() -> None:
    ufw = Ufw(active=True)
    ufw.status = 1
    with pytest.raises(FirewallError, match="opening port 31000 failed") as caught:
        await LinuxFirewall(run=ufw).allow(31000, app="shop")
    assert caught.value.remedy


@pytest.mark.trio
@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(FirewallError, match="no port"):
        await LinuxFirewall(run=Ufw(active=True)).allow(port, app="shop")


@pytest.mark.trio
@pytest.mark.parametrize("name", ["br-+", "eth0 -j ACCEPT", "", "a\nb"])
async def test_what_is_no_interface_reaches_no_rule(name: str) -> None:
    with pytest.raises(FirewallError, match="interface"):
        await LinuxFirewall(run=Ufw(active=None)).guard_private([name])


class Net:
    """A host with a bridge and two containers, between them and a private network; all in namespaces.

    `host` forwards; `app` and `twin` are on its bridge; `lan` answers at a private and at a public address.
    """

    def __init__(self, tag: str) -> None:
        self.names = {role: f"trio{tag}{role}" for role in ("host", "app", "twin", "lan")}
        self.listeners: list[subprocess.Popen[bytes]] = []

    def set_up(self) -> None:
        for name in self.names.values():
            _must("ip", "netns", "add", name)
            _must("ip", "-n", name, "link", "set", "lo", "up")
        host = self.names["host"]
        _must("ip", "-n", host, "link", "add", "br-app", "type", "bridge")
        _must("ip", "-n", host, "address", "add", "172.23.5.1/24", "dev", "br-app")
        _must("ip", "-n", host, "link", "set", "br-app", "up")
        for role, address in (("app", "172.23.5.2/24"), ("twin", "172.23.5.3/24")):
            self._wire(role, address, "172.23.5.1")
            _must("ip", "-n", host, "link", "set", f"to-{role}", "master", "br-app")
        self._wire("lan", "192.168.77.2/24", "192.168.77.1")
        _must("ip", "-n", self.names["lan"], "address", "add", "198.18.77.2/24", "dev", "eth0")
        for address in ("192.168.77.1/24", "198.18.77.1/24"):
            _must("ip", "-n", host, "address", "add", address, "dev", "to-lan")
        self.inside("host", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.listen("lan", 53, 8000)
        self.listen("twin", 8000)
        self.listen("app", 8000)

    def tear_down(self) -> None:
        for listener in self.listeners:
            listener.kill()
            listener.communicate()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def inside(self, role: str, *words: str) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.names[role], *words], capture_output=True, text=True, check=True
        )
        return done.stdout

    def listen(self, role: str, *ports: int) -> None:
        words = [sys.executable, "-c", LISTEN, *map(str, ports)]
        listener = subprocess.Popen(["ip", "netns", "exec", self.names[role], *words], stdout=subprocess.PIPE)
        self.listeners.append(listener)
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"there\n"

    def tries(self, role: str, address: str, port: int = 8000) -> str:
        return self.inside(role, sys.executable, "-c", CONNECT, address, str(port)).strip()

    async def run(self, *words: str, given: str = "", holding: Sequence[int] = ()) -> Done:
        return await SystemRun()("ip", "netns", "exec", self.names["host"], *words, given=given)

    def rules(self) -> list[str]:
        return self.inside("host", "iptables", "-w", "-S").splitlines()

    def _wire(self, role: str, address: str, gateway: str) -> None:
        name, host = self.names[role], self.names["host"]
        _must("ip", "-n", host, "link", "add", f"to-{role}", "type", "veth", "peer", "eth0", "netns", name)
        _must("ip", "-n", host, "link", "set", f"to-{role}", "up")
        _must("ip", "-n", name, "address", "add", address, "dev", "eth0")
        _must("ip", "-n", name, "link", "set", "eth0", "up")
        _must("ip", "-n", name, "route", "add", "default", "via", gateway)


@pytest.fixture
def net() -> Iterator[Net]:
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("iptables"):
        pytest.skip("needs root, ip and iptables")
    made = Net(f"{os.getpid() % 100_000}")
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()


def _must(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def resolver(tmp_path: Path, address: str = "9.9.9.9") -> str:
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver {address}\n")
    return str(path)


@pytest.mark.process
@pytest.mark.trio
@pytest.mark.parametrize("has_engine", [True, False])
async def test_an_app_reaches_the_world_and_its_network_but_no_private_one(
    net: Net, tmp_path: Path, has_engine: bool
) -> None:
    if has_engine:
        net.inside("host", "iptables", "-w", "-N", "DOCKER-USER")
        net.inside("host", "iptables", "-w", "-A", "FORWARD", "-j", "DOCKER-USER")
    before = net.rules()
    firewall = LinuxFirewall(run=net.run, resolvers=[resolver(tmp_path)])
    assert net.tries("app", "192.168.77.2") == "reached"
    await firewall.guard_private(["br-app"])
    assert net.tries("app", "192.168.77.2") == "refused"
    assert net.tries("app", "192.168.77.2", 53) == "refused"
    assert net.tries("app", "198.18.77.2") == "reached"
    assert net.tries("app", "172.23.5.3") == "reached"
    # an answer to somebody of the private network is no try of the app's
    assert net.tries("lan", "172.23.5.2") == "reached"
    once = net.rules()
    await firewall.guard_private(["br-app"])
    assert net.rules() == once
    await firewall.unguard()
    await firewall.unguard()
    assert net.rules() == before
    assert net.tries("app", "192.168.77.2") == "reached"


@pytest.mark.process
@pytest.mark.trio
async def test_a_private_name_server_can_be_asked(net: Net, tmp_path: Path) -> None:
    firewall = LinuxFirewall(run=net.run, resolvers=[resolver(tmp_path, "192.168.77.2"), "/nowhere"])
    await firewall.guard_private(["br-app"])
    assert net.tries("app", "192.168.77.2", 53) == "reached"
    assert net.tries("app", "192.168.77.2") == "refused"


@pytest.mark.process
@pytest.mark.trio
async def test_the_rules_move_to_the_engine_when_it_comes(net: Net, tmp_path: Path) -> None:
    firewall = LinuxFirewall(run=net.run, resolvers=[resolver(tmp_path)])
    await firewall.guard_private(["br-app"])
    assert f"-A FORWARD -j {CHAIN}" in net.rules()
    net.inside("host", "iptables", "-w", "-N", "DOCKER-USER")
    net.inside("host", "iptables", "-w", "-I", "FORWARD", "-j", "DOCKER-USER")
    await firewall.guard_private(["br-app"])
    assert f"-A DOCKER-USER -j {CHAIN}" in net.rules()
    assert f"-A FORWARD -j {CHAIN}" not in net.rules()


@pytest.mark.process
@pytest.mark.trio
async def test_a_bridge_that_is_gone_is_guarded_no_more(net: Net, tmp_path: Path) -> None:
    firewall = LinuxFirewall(run=net.run, resolvers=[resolver(tmp_path)])
    await firewall.guard_private(["br-app", "br-gone"])
    assert any("br-gone" in rule for rule in net.rules())
    await firewall.guard_private(["br-app"])
    assert not any("br-gone" in rule for rule in net.rules())
