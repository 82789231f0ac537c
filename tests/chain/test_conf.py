"""The flux.conf reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.chain.conf import DaemonConf, find_conf, parse_conf, read_conf
from trionode.errors import ConfigError

SAMPLE = """\
rpcuser=flux
  rpcpassword = a=b=c \t
# a comment
rpcport=26124

addnode=one
addnode=two
addnode=three
zelnodeprivkey=5Jabc
insightexplorer=1
"""


def test_the_sample() -> None:
    conf = parse_conf(SAMPLE)
    assert (conf.rpc_user, conf.rpc_password, conf.rpc_port) == ("flux", "a=b=c", 26124)
    assert conf.values["addnode"] == ("one", "two", "three")
    assert conf.all("addnode") == ("one", "two", "three")
    assert conf.first("addnode") == "one"
    assert conf.node_key_wif == "5Jabc"
    assert conf.has_address_index
    assert conf.all("datadir") == ()


def test_defaults() -> None:
    conf = read_conf(None)
    assert (conf.rpc_user, conf.rpc_password, conf.rpc_port) == ("rpcuser", "rpcpassword", 16124)
    assert conf.node_key_wif == ""
    assert not conf.has_address_index


@pytest.mark.parametrize("port", ["", "abc", "0", "65536", "-1", "1.5", "²"])
def test_a_port_that_is_none_is_refused_by_name(port: str) -> None:
    with pytest.raises(ConfigError, match="rpcport"):
        _ = parse_conf(f"rpcport={port}", "/etc/flux.conf").rpc_port


WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=6)


@given(st.lists(st.tuples(WORDS, st.text("ab=# ", max_size=6)), max_size=12))
def test_every_value_is_kept_in_order(pairs: list[tuple[str, str]]) -> None:
    conf = parse_conf("\n".join(f" {key} = {value}" for key, value in pairs))
    for key in {key for key, _ in pairs}:
        assert conf.all(key) == tuple(value.strip() for k, value in pairs if k == key)
        assert isinstance(conf.values[key], str) == (len(conf.all(key)) == 1)
    assert set(conf.values) == {key for key, _ in pairs}


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    assert isinstance(parse_conf(text), DaemonConf)


def test_places(tmp_path: Path) -> None:
    assert find_conf({}, tmp_path) is None
    old = tmp_path / ".zelcash" / "zelcash.conf"
    old.parent.mkdir()
    old.write_text("rpcuser=old")
    assert find_conf({}, tmp_path) == old
    new = tmp_path / ".flux" / "flux.conf"
    new.parent.mkdir()
    new.write_text("rpcuser=new")
    assert find_conf({}, tmp_path) == new
    assert find_conf({"FLUXD_CONFIG_PATH": "/nowhere/flux.conf"}, tmp_path) == Path("/nowhere/flux.conf")
    assert read_conf(new).rpc_user == "new"


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*missing\.conf") as refused:
        read_conf(tmp_path / "missing.conf")
    assert "daemon_conf" in refused.value.remedy
