"""Reader of the chain daemon's configuration file, flux.conf (docs/spec/daemon-rpc.md §1).

Text of `key=value` lines, trimmed and split at the first `=`; a key seen again becomes a list;
lines without `=` carry no setting. Nothing here writes the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from trionode.errors import ConfigError

DEFAULT_RPC_USER = "rpcuser"
DEFAULT_RPC_PASSWORD = "rpcpassword"
DEFAULT_RPC_PORT = 16124
CONF_PATH_VARIABLE = "FLUXD_CONFIG_PATH"


class DaemonConf(msgspec.Struct, frozen=True):
    """What a flux.conf says. `values` keeps every key; a repeated one maps to a tuple."""

    values: Mapping[str, str | tuple[str, ...]] = msgspec.field(default_factory=dict)
    path: str = ""

    def all(self, key: str) -> tuple[str, ...]:
        """Every value given for `key`, in file order; empty when it is absent."""
        value = self.values.get(key)
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else value

    def first(self, key: str, default: str = "") -> str:
        """The value of `key`; of a repeated key the first one, which is the one fluxd obeys."""
        found = self.all(key)
        return found[0] if found else default

    @property
    def rpc_user(self) -> str:
        return self.first("rpcuser", DEFAULT_RPC_USER)

    @property
    def rpc_password(self) -> str:
        return self.first("rpcpassword", DEFAULT_RPC_PASSWORD)

    @property
    def rpc_port(self) -> int:
        """Port of the daemon's RPC; raises ConfigError when the file holds no port number."""
        text = self.first("rpcport", str(DEFAULT_RPC_PORT))
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
            raise ConfigError(
                f"{self.path or 'flux.conf'}: rpcport is {text!r}",
                remedy="give a port from 1 to 65535 or remove the line",
            )
        return int(text)

    @property
    def node_key_wif(self) -> str:
        """The key that signs every network message, or "" (`zelnodeprivkey`)."""
        return self.first("zelnodeprivkey")

    @property
    def has_address_index(self) -> bool:
        return self.first("insightexplorer") == "1"


def parse_conf(text: str, path: str = "") -> DaemonConf:
    """Values of a flux.conf text; lines without `=` and lines without a key are passed over."""
    values: dict[str, str | tuple[str, ...]] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key:
            continue
        earlier = values.get(key)
        if earlier is None:
            values[key] = value
        elif isinstance(earlier, str):
            values[key] = (earlier, value)
        else:
            values[key] = (*earlier, value)
    return DaemonConf(values, path)


def find_conf(env: Mapping[str, str], home: Path) -> Path | None:
    """Where the file is: $FLUXD_CONFIG_PATH, else ~/.flux/flux.conf, else ~/.zelcash/zelcash.conf.

    None when neither default exists; a path named by the environment is returned unchecked.
    """
    named = env.get(CONF_PATH_VARIABLE)
    if named:
        return Path(named)
    for candidate in (home / ".flux" / "flux.conf", home / ".zelcash" / "zelcash.conf"):
        if candidate.is_file():
            return candidate
    return None


def read_conf(path: Path | None) -> DaemonConf:
    """The file at `path` (defaults for None). Raises ConfigError if it cannot be read."""
    if path is None:
        return DaemonConf()
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(
            f"cannot read the daemon configuration {path}: {error.strerror or error}",
            remedy="check chain.daemon_conf (or FLUXD_CONFIG_PATH) and the file's permissions",
        ) from error
    return parse_conf(text, str(path))
