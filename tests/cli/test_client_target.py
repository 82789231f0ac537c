"""Which node the asking commands ask, and how numbers are shown to people (docs/cli.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from trionode.cli.client import NodeApi, NodeRefused, NodeUnreachable, resolve
from trionode.cli.render import duration, size


def test_which_node_is_asked(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[node]\nbind_host = "0.0.0.0"\napi_port = 16147\nunknown = 1\n')
    (tmp_path / "empty.toml").write_text("")
    (tmp_path / "ip.toml").write_text('[node]\nbind_host = "127.5.0.1"\n')

    def url(api: str | None = None, config: Path | None = None, **env: str) -> str:
        return resolve(api, str(config) if config else None, env, tmp_path).url

    assert url("127.1.0.1:16137", config, TRIONODE_API="http://x") == "http://127.1.0.1:16137"
    assert url(None, config, TRIONODE_API="http://10.0.0.1") == "http://10.0.0.1:16127"
    assert url(None, config) == "http://127.0.0.1:16147"
    assert url(None, tmp_path / "ip.toml") == "http://127.5.0.1:16127"
    assert url(None, tmp_path / "empty.toml") == "http://127.0.0.1:16127"
    assert url(TRIONODE_CONFIG=str(config)) == "http://127.0.0.1:16147"
    assert url("http://[::1]:16127/") == "http://[::1]:16127"


@pytest.mark.parametrize("text", ["https://127.0.0.1", "http://", "http://h:99999", "http://h:x", "ftp://h"])
def test_bad_addresses_are_explained(text: str, tmp_path: Path) -> None:
    with pytest.raises(NodeRefused, match="no API address"):
        resolve(text, None, {}, tmp_path)


def test_an_unreadable_configuration_is_explained(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[node")
    for name in ("bad.toml", "missing.toml"):
        with pytest.raises(NodeRefused, match=name):
            resolve(None, str(tmp_path / name), {}, tmp_path)


def test_a_node_that_hangs_up_is_unreachable() -> None:
    with pytest.raises(NodeUnreachable):
        NodeApi("127.0.0.1", 1).get("/flux/version")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-3, "0 s"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (90_061, "1 d 1 h"),
        (3_601, "1 h 1 s"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (2_500_000, "2.5 MB"), (3e12, "3.0 TB")],
)
def test_sizes(number: float | None, text: str) -> None:
    assert size(number) == text
