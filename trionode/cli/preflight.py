"""What `trionode run` checks before it starts, so that a wrong set-up is told in the first second.

Errors end the start with one line; warnings are logged and the node goes on (it waits for daemons,
docs/spec/daemon-rpc.md §9, and for space on its disk: docs/storage.md).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from trionode.chain.conf import DaemonConf, find_conf, read_conf
from trionode.config.keyfile import FoundKey, find_key
from trionode.config.paths import data_dir
from trionode.config.tree import Settings
from trionode.errors import StartupError, StoreAway, WireError
from trionode.store.sqlite_failures import os_remedy, passes
from trionode.wire.keys import NodeKey

_REACH_TIMEOUT_S = 1.0


class Ready(msgspec.Struct, frozen=True):
    """What the checks found out: the key in use and its source, the daemon's conf, what to warn of.

    `away`: the data folder cannot be written just now; the store waits for it.
    """

    key: NodeKey
    key_source: str
    conf: DaemonConf
    warnings: tuple[str, ...]
    away: StoreAway | None = None


def check_all(settings: Settings, env: Mapping[str, str], home: Path) -> Ready:
    """Run every check. Raises StartupError or ConfigError with the remedy at the first that fails."""
    conf = daemon_conf(settings, env, home)
    found = find_key(settings, conf.node_key_wif, conf.path)
    key = checked_key(found)
    away = None
    try:
        check_data_dir(data_dir(settings))
    except StoreAway as problem:
        away = problem
    check_port(settings.node.bind_host, settings.node.api_port)
    check_apps_file(settings)
    warnings = list(_daemon_warnings(settings, conf))
    if found.exposed:
        warnings.append(f"other users can read the node key {found.where}: chmod 600 it")
    return Ready(key, found.where, conf, tuple(warnings), away)


def daemon_conf(settings: Settings, env: Mapping[str, str], home: Path) -> DaemonConf:
    """The daemon's conf: `chain.daemon_conf`, else where the daemon keeps it; empty if there is none."""
    named = settings.chain.daemon_conf
    return read_conf(Path(named).expanduser() if named else find_conf(env, home))


def checked_key(found: FoundKey) -> NodeKey:
    """The key of a text. Raises StartupError when it is none; the key itself is never shown."""
    try:
        return NodeKey.from_wif(found.wif)
    except (WireError, ValueError) as error:
        raise StartupError(
            f"the node key in {found.where} is not a valid private key (WIF)",
            remedy="it starts with 5, K or L and has 51 or 52 characters: copy it again",
        ) from error


def check_data_dir(folder: Path) -> None:
    """Make the data folder and write into it. Raises StartupError, and StoreAway when it has no space."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            probe.write_bytes(b"x")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        problem = f"cannot write into the data folder {folder}: {error.strerror or error}"
        if passes(error):
            raise StoreAway(problem, remedy=os_remedy(error, "")) from error
        raise StartupError(problem, remedy="set node.data_dir to a folder this user may write to") from error


def check_port(host: str, port: int) -> None:
    """Bind the API port once and let it go. Raises StartupError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise StartupError(
            f"node.bind_host {host!r} is no address: {error.strerror or error}",
            remedy="use 0.0.0.0 or an address of this machine",
        ) from error
    with socket.socket(family, kind, protocol) as probe:
        # As the real listener does, so that connections in TIME_WAIT do not count as busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            raise _port_error(host, port, error) from error


def _port_error(host: str, port: int, error: OSError) -> StartupError:
    if error.errno == errno.EADDRINUSE:
        return StartupError(
            f"port {port} on {host} is in use",
            remedy="stop the program that uses it (perhaps another node), or set another node.api_port",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return StartupError(
            f"{host} is not an address of this machine", remedy="set node.bind_host to 0.0.0.0 or one that is"
        )
    return StartupError(
        f"cannot listen on {host} port {port}: {error.strerror or error}",
        remedy="set another node.api_port or node.bind_host",
    )


def check_apps_file(settings: Settings) -> None:
    """The file of running apps, when one is named, must be there. Raises StartupError."""
    named = settings.node.apps_file
    if named and not Path(named).expanduser().is_file():
        raise StartupError(
            f"there is no apps file {named}", remedy="create it, or set node.apps_file to an empty text"
        )


def _daemon_warnings(settings: Settings, conf: DaemonConf) -> Iterator[str]:
    chain = settings.chain
    daemon_port = chain.daemon_port or conf.rpc_port
    reason = _unreachable(chain.daemon_host, daemon_port)
    if reason:
        yield (
            f"the chain daemon at {chain.daemon_host}:{daemon_port} cannot be reached ({reason}): "
            "the node starts and waits for it; check that fluxd runs, chain.daemon_host and chain.daemon_port"
        )
    reason = _unreachable(chain.bench_host, chain.bench_port)
    if reason and not settings.node.address:
        yield (
            f"the benchmark daemon at {chain.bench_host}:{chain.bench_port} cannot be reached ({reason}): "
            "without it the node does not know its own address; start fluxbenchd or set node.address"
        )


def _unreachable(host: str, port: int) -> str:
    """Why a TCP connection cannot be made, empty when it can."""
    try:
        socket.create_connection((host, port), timeout=_REACH_TIMEOUT_S).close()
    except TimeoutError:
        return f"no answer within {_REACH_TIMEOUT_S:g} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""
