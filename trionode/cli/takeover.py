"""What an existing node's files say, in our own settings (`trionode init --from`).

Two files are read, never executed or changed: the daemon's flux.conf (docs/spec/daemon-rpc.md §1)
and userconfig.js (docs/spec/config.md §6), of which only plain `key: 'value'` literals are taken
with a small tolerant text reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from trionode.chain.conf import read_conf
from trionode.config.load import RefusedSettings, load
from trionode.config.withouteffect import why_not_taken
from trionode.errors import ConfigError

_MAX_BYTES = 1024 * 1024
_SEARCH_DEPTH = 3
_CONF_NAMES = ("flux.conf", "zelcash.conf")
_USER_NAME = "userconfig.js"

_USER_KEYS = {
    "ipaddress": "node.address",
    "zelid": "node.operator_id",
    "apiport": "node.api_port",
    "kadena": "node.kadena_address",
    "blockedPorts": "hosting.blocked_ports",
    "blockedRepositories": "hosting.blocked_repositories",
}
_CONF_KEYS = {
    "rpcuser": "chain.daemon_user",
    "rpcpassword": "chain.daemon_password",
    "rpcport": "chain.daemon_port",
}
_KEY_OF_CONF = "zelnodeprivkey"

_TOKEN = re.compile(
    r"""
    //[^\n]* | /\*.*?\*/                                      # comments
  | (?P<key>[A-Za-z_$][\w$]*|'[^'\n]*'|"[^"\n]*")\s*:\s*      # a key, then a literal
    (?P<value>'(?:\\.|[^'\\\n])*' | "(?:\\.|[^"\\\n])*" | `(?:\\.|[^`\\$])*`
      | \[[^\[\]{}]*\] | -?\d+(?:\.\d+)? | true\b | false\b)
  | '(?:\\.|[^'\\\n])*' | "(?:\\.|[^"\\\n])*" | `[^`]*`       # any other text: skipped whole
    """,
    re.VERBOSE | re.DOTALL,
)
_ITEM = re.compile(r"""'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)"|`([^`]*)`|(-?\d+(?:\.\d+)?)|(true|false)""")


class TakenOver(msgspec.Struct, frozen=True):
    """Settings found, the node key's text if there was one, and lines that tell what was done."""

    settings: Mapping[str, Any]
    wif: str
    report: tuple[str, ...]


def take_over(source: Path) -> TakenOver:
    """Read what `source` holds: one of the two files, or a folder in which they are looked for.

    Raises ConfigError when nothing is found or a file cannot be read.
    """
    files = list(_find(source))
    if not files:
        raise ConfigError(
            f"found neither {_USER_NAME} nor {' or '.join(_CONF_NAMES)} in {source}",
            remedy="name one of these files, or the home folder of the user that ran the node",
        )
    settings: dict[str, Any] = {}
    report: list[str] = []
    wif = ""
    for file in files:
        report.append(f"read {file}")
        if file.suffix == ".js":
            entries = _user_entries(file)
        else:
            conf = read_conf(file)
            wif = wif or conf.node_key_wif
            entries = {key: conf.first(key) for key in conf.values}
        _take(entries, settings, report)
    _complete_address(settings, report)
    return TakenOver(settings, wif, tuple(report))


def _complete_address(settings: dict[str, Any], report: list[str]) -> None:
    """An address without a port means 16127 to the network: a node on another port must name it."""
    address, port = settings.get("node.address"), settings.get("node.api_port", 16127)
    if address is None:
        return
    if port != 16127 and ":" not in address:
        settings["node.address"] = f"{address}:{port}"
        report.append(f"  node.address becomes {address}:{port}, as the API port is not 16127")
    report.append("  note: remove node.address if this machine's public address may change")


def literals(text: str) -> dict[str, Any]:
    """The `key: literal` pairs of a JavaScript text; of a repeated key the last one wins."""
    found: dict[str, Any] = {}
    for token in _TOKEN.finditer(text):
        if token["key"] is not None:
            found[token["key"].strip("'\"")] = _literal(token["value"])
    return found


def _literal(text: str) -> Any:
    if text.startswith("["):
        body = re.sub(r"//[^\n]*|/\*.*?\*/", "", text[1:-1], flags=re.DOTALL)
        return [_literal(match[0]) for match in _ITEM.finditer(body)]
    if text[0] in "'\"`":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if text in ("true", "false"):
        return text == "true"
    return float(text) if "." in text else int(text)


def _find(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        return
    if not source.is_dir():
        return
    for names in (_CONF_NAMES, (_USER_NAME,)):
        for depth in range(_SEARCH_DEPTH + 1):
            pattern = "*/" * depth
            hits = sorted(hit for name in names for hit in source.glob(pattern + name) if hit.is_file())
            if hits:
                yield hits[0]
                break


def _user_entries(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_BYTES)
    except OSError as error:
        raise ConfigError(
            f"cannot read {file}: {error.strerror or error}", remedy="make it readable for this user"
        ) from error
    return literals(raw.decode("utf-8", errors="replace"))


def _take(entries: Mapping[str, Any], settings: dict[str, Any], report: list[str]) -> None:
    for key, value in entries.items():
        ours = _USER_KEYS.get(key) or _CONF_KEYS.get(key)
        if key == _KEY_OF_CONF:
            report.append(f"  took    {key} (the node key)")
        elif value in ("", [], "127.0.0.1") or value is False:
            report.append(f"  ignored {key}: not set there")
        elif ours is None:
            report.append(f"  ignored {key}: {why_not_taken(key)}")
        else:
            fitting, reason = _fit(ours, value)
            if reason:
                report.append(f"  ignored {key}: {reason}")
            else:
                settings[ours] = fitting
                shown = "" if key == "rpcpassword" else f" = {fitting}"
                report.append(f"  took    {key} as {ours}{shown}")


def _fit(key: str, value: Any) -> tuple[Any, str]:
    """`value` in the type of our setting `key`, or why it cannot be taken.

    Numbers may stand there as text and the other way round.
    """
    from trionode.config.check import value_of

    wanted = value
    if isinstance(value, list):
        wanted = ",".join(map(str, value))
    elif not isinstance(value, bool):
        wanted = str(value)
    try:
        loaded = load(overrides={key: wanted})
    except RefusedSettings as error:
        return None, error.problems[0].message
    fitted = value_of(loaded.settings, key)
    return list(fitted) if isinstance(fitted, tuple) else fitted, ""
