"""`trionode init`: files it writes, files it refuses to touch, what it takes over from a node."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.cli.main import call
from trionode.cli.takeover import literals
from trionode.config.load import load
from trionode.wire.keys import NodeKey

WIF = "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ"

USERCONFIG = """\
// zelid: 'commented out'
module.exports = {
  initial: {
    ipaddress: '1.2.3.4', /* apiport: 1 */
    zelid: "1Operator",
    kadena: 'kadena:k12?chainid=0', // it's a note
    testnet: false,
    development: false,
    apiport: '16137',
    routerIP: '',
    pgpPrivateKey: `-----BEGIN PGP-----
      zelid: 'not this one'
    `,
    blockedPorts: [80, /* 81, */ '443'],
    blockedRepositories: ['bad/one', "worse"],
    debug: process.env.DEBUG || require('child_process').execSync('touch /tmp/owned'),
  },
};
"""
CONF = f"rpcuser=bob\nrpcpassword=p=w#d\nrpcport=16999\nzelnodeprivkey={WIF}\ntxindex=1\n# addnode=x\n"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    monkeypatch.delenv("TRIONODE_CONFIG", raising=False)


def old_node(tmp_path: Path) -> Path:
    home = tmp_path / "old"
    (home / ".flux").mkdir(parents=True)
    (home / ".flux" / "flux.conf").write_text(CONF)
    (home / "zelflux" / "config").mkdir(parents=True)
    (home / "zelflux" / "config" / "userconfig.js").write_text(USERCONFIG)
    return home


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever runs on this machine."""
    monkeypatch.setattr("trionode.cli.init.ENGINE_SOCKET", str(tmp_path / "no-engine.sock"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "node"
    assert call(["init", "--dir", str(place)]) == 0
    config, key = place / "trionode.toml", place / "node.key"
    assert (mode(config), mode(key), mode(place)) == (0o600, 0o600, 0o700)
    made = NodeKey.from_wif(key.read_text().strip())
    out = capsys.readouterr().out
    assert made.public_key in out
    assert made.wif not in out
    assert f"trionode --config {config} run" in out
    loaded = load([config])
    assert loaded.settings.node.data_dir == str(place)
    assert loaded.settings.node.key_file == str(key)
    assert sum(origin != "default" for origin in loaded.origins.values()) == 2
    assert call(["config", "check", str(config)]) == 0


def test_apps_run_where_an_engine_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "docker.sock"
    monkeypatch.setattr("trionode.cli.init.ENGINE_SOCKET", str(place))
    call(["init", "--dir", str(tmp_path / "without")])
    assert load([tmp_path / "without" / "trionode.toml"]).settings.hosting.engine == "none"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        call(["init", "--dir", str(tmp_path / "with")])
    assert load([tmp_path / "with" / "trionode.toml"]).settings.hosting.engine == "docker"


def test_every_commented_line_is_valid_when_uncommented(tmp_path: Path) -> None:
    place = tmp_path / "node"
    call(["init", "--dir", str(place)])
    config = place / "trionode.toml"
    lines = [
        line.removeprefix("# ") if " = " in line and line.startswith("# ") else line
        for line in config.read_text().splitlines()
    ]
    config.write_text("\n".join(lines))
    given_keys = [key for key, origin in load([config]).origins.items() if origin != "default"]
    assert len(given_keys) >= 20


def test_the_default_place_is_found_by_the_other_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["init"]) == 0
    assert (tmp_path / "home" / ".trionode" / "node.key").exists()
    capsys.readouterr()
    assert call(["config", "show", "node.data_dir", "--origin"]) == 0
    assert str(tmp_path / "home" / ".trionode" / "trionode.toml") in capsys.readouterr().out


@pytest.mark.parametrize("how", ["--key", "--key-file"])
def test_a_key_is_imported(tmp_path: Path, how: str) -> None:
    source = tmp_path / "wif.txt"
    source.write_text(f"  {WIF}\n")
    place = tmp_path / "node"
    assert call(["init", "--dir", str(place), how, WIF if how == "--key" else str(source)]) == 0
    assert (place / "node.key").read_text() == f"{WIF}\n"


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "node"
    call(["init", "--dir", str(place)])
    before = {path.name: path.read_text() for path in place.iterdir()}
    capsys.readouterr()
    for arguments in ([], ["--generate"], ["--key", WIF]):
        assert call(["init", "--dir", str(place), *arguments]) == 3
        error = capsys.readouterr().err
        assert error.startswith(f"trionode: {place / 'trionode.toml'} exists already - ")
        assert error.count("\n") == 1
    (place / "trionode.toml").unlink()
    assert call(["init", "--dir", str(place), "--generate"]) == 3
    assert not (place / "trionode.toml").exists(), "either both are written or none"
    assert (place / "node.key").read_text() == before["node.key"]


def test_without_a_key_option_an_existing_key_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "node"
    place.mkdir()
    (place / "node.key").write_text(WIF)
    assert call(["init", "--dir", str(place)]) == 0
    assert (place / "node.key").read_text() == WIF
    assert f"kept {place / 'node.key'}" in capsys.readouterr().out


def test_force_keeps_the_old_files_aside(tmp_path: Path) -> None:
    place = tmp_path / "node"
    for _ in range(3):
        assert call(["init", "--dir", str(place), "--generate", "--force"]) == 0
    names = sorted(path.name for path in place.iterdir())
    assert names == [
        *("node.key", "node.key.old1", "node.key.old2"),
        *("trionode.toml", "trionode.toml.old1", "trionode.toml.old2"),
    ]
    assert len({path.read_text() for path in place.glob("node.key*")}) == 3
    assert {mode(path) for path in place.iterdir()} == {0o600}


def test_take_over_of_a_whole_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "node"
    old = old_node(tmp_path)
    assert call(["init", "--dir", str(place), "--from", str(old)]) == 0
    settings = load([place / "trionode.toml"]).settings
    assert (place / "node.key").read_text() == f"{WIF}\n"
    assert settings.node.operator_id == "1Operator"
    assert settings.node.api_port == 16137
    assert settings.node.address == "1.2.3.4:16137"
    assert settings.node.kadena_address == "kadena:k12?chainid=0"
    assert settings.hosting.blocked_ports == (80, 443)
    assert settings.hosting.blocked_repositories == ("bad/one", "worse")
    assert settings.chain.daemon_user == "bob"
    assert settings.chain.daemon_password == "p=w#d"
    assert settings.chain.daemon_port == 16999
    out = capsys.readouterr().out
    for line in (
        "took    zelid as node.operator_id = 1Operator",
        "took    rpcpassword as chain.daemon_password",
        "took    zelnodeprivkey (the node key)",
        "ignored txindex: trionode has no use for it",
        "ignored pgpPrivateKey: nothing here needs it",
        "ignored routerIP: not set there",
        "ignored testnet: not set there",
    ):
        assert f"  {line}\n" in out
    assert "p=w#d" not in out
    assert WIF not in out
    assert not Path("/tmp/owned").exists(), "the file is read, never executed"


def test_take_over_says_why_a_known_key_has_no_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "userconfig.js"
    file.write_text("x = {routerIP: '192.168.1.1', testnet: true, zelid: '1ok'}")
    assert call(["init", "--dir", str(tmp_path / "node"), "--from", str(file)]) == 0
    out = capsys.readouterr().out
    assert "  ignored routerIP: there is no UPnP: forward the ports at the router by hand" in out
    assert "  ignored testnet: the coin's test chain: set chain.daemon_port and chain.bench_port\n" in out
    assert "router" not in (tmp_path / "node" / "trionode.toml").read_text()


def test_take_over_of_one_file(tmp_path: Path) -> None:
    old = old_node(tmp_path)
    place = tmp_path / "node"
    assert call(["init", "--dir", str(place), "--from", str(old / ".flux" / "flux.conf")]) == 0
    settings = load([place / "trionode.toml"]).settings
    assert (settings.chain.daemon_user, settings.node.operator_id) == ("bob", "")


def test_a_value_we_would_refuse_is_reported_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "userconfig.js"
    file.write_text("x = {apiport: 4000, blockedPorts: [0], zelid: '1ok'}")
    place = tmp_path / "node"
    assert call(["init", "--dir", str(place), "--from", str(file)]) == 0
    out = capsys.readouterr().out
    assert "ignored apiport: node.api_port = 4000 is not a port that peers accept" in out
    assert "ignored blockedPorts: hosting.blocked_ports must be" in out
    settings = load([place / "trionode.toml"]).settings
    assert (settings.node.api_port, settings.node.operator_id) == (16127, "1ok")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--from", "nowhere"], 3, "found neither userconfig.js nor flux.conf"),
        (["--key", "abc"], 4, "the node key in --key is not a valid private key"),
        (["--key-file", "nowhere"], 3, "cannot read the key file nowhere"),
        (["--key", WIF, "--generate"], 2, "exclude each other"),
    ],
)
def test_wrong_use_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, text: str
) -> None:
    place = tmp_path / "node"
    assert call(["init", "--dir", str(place), *arguments]) == code
    error = capsys.readouterr().err
    assert text in error
    assert " - " in error
    assert error.count("\n") == 1
    assert not place.exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert call(["init", "--dir", str(tmp_path / "file" / "node")]) == 3
    assert "cannot write" in capsys.readouterr().err


def test_literals_of_odd_texts() -> None:
    assert literals(r"""a: 'it\'s', "b": "x", 'c' : -1.5, d:true,e: f(1), g: [ 'x', 2 ], a: 'last'""") == {
        "a": "last",
        "b": "x",
        "c": -1.5,
        "d": True,
        "g": ["x", 2],
    }
    assert literals("url: 'http://x/y' // z: 'no'\n") == {"url": "http://x/y"}
    assert literals("const s = 'a: 1'; /* b: 2 */") == {}
    assert literals("") == {}


@given(text=st.text(alphabet="ab:'\"`[]{}\\/*,\n 1.-", max_size=60))
def test_no_text_upsets_the_reader(text: str) -> None:
    assert isinstance(literals(text), dict)
