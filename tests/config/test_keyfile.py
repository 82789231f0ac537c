"""Where the key and the configuration file are found, and how private files are written."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from trionode.config.keyfile import find_key, write_private
from trionode.config.paths import config_path, database_path, key_path
from trionode.config.tree import NodeSettings, Settings, StoreSettings
from trionode.errors import StartupError


def settings(data_dir: Path, key_file: str = "") -> Settings:
    return Settings(node=NodeSettings(data_dir=str(data_dir), key_file=key_file))


def test_named_file_wins_then_data_folder_then_daemon_conf(tmp_path: Path) -> None:
    named = tmp_path / "named.key"
    named.write_text(" named-wif\n")
    assert find_key(settings(tmp_path), "conf-wif", "/x/flux.conf").where == "zelnodeprivkey in /x/flux.conf"
    write_private(tmp_path / "node.key", "folder-wif\n")
    assert find_key(settings(tmp_path), "conf-wif").wif == "folder-wif"
    found = find_key(settings(tmp_path, str(named)), "conf-wif")
    assert (found.wif, found.where) == ("named-wif", str(named))


def test_the_key_is_never_in_the_representation(tmp_path: Path) -> None:
    assert "secret" not in repr(find_key(settings(tmp_path), "secret"))


def test_a_file_that_others_may_read_is_reported(tmp_path: Path) -> None:
    key = tmp_path / "node.key"
    write_private(key, "x")
    assert not find_key(settings(tmp_path), "").exposed
    key.chmod(0o640)
    assert find_key(settings(tmp_path), "").exposed


def test_missing_and_empty_keys(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="there is no node key") as caught:
        find_key(settings(tmp_path), "")
    assert "trionode init" in caught.value.remedy
    # A key that was named and is missing is an error even when the daemon has one.
    with pytest.raises(StartupError, match="cannot read the node key"):
        find_key(settings(tmp_path, str(tmp_path / "gone")), "conf-wif")
    (tmp_path / "node.key").write_text("\n")
    with pytest.raises(StartupError, match="is empty"):
        find_key(settings(tmp_path), "conf-wif")


def test_private_files_are_private_whole_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "node.key"
    write_private(path, "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with pytest.raises(FileExistsError):
        write_private(path, "two")
    assert path.read_text() == "one"
    assert [entry.name for entry in path.parent.iterdir()] == ["node.key"], "no draft is left behind"


def test_which_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    here = tmp_path / "here"
    here.mkdir()
    assert config_path(None, {}, here) is None
    at_home = tmp_path / "home" / ".trionode" / "trionode.toml"
    at_home.parent.mkdir(parents=True)
    at_home.write_text("")
    assert config_path(None, {}, here) == at_home
    (here / "trionode.toml").write_text("")
    assert config_path(None, {}, here) == here / "trionode.toml"
    assert config_path(None, {"TRIONODE_CONFIG": "/nope"}, here) == Path("/nope")
    assert config_path("~/x.toml", {"TRIONODE_CONFIG": "/nope"}, here) == tmp_path / "home" / "x.toml"


def test_paths_of_the_data_folder(tmp_path: Path) -> None:
    tree = settings(tmp_path)
    assert key_path(tree) == tmp_path / "node.key"
    assert database_path(tree) == tmp_path / "trionode.db"
    assert database_path(Settings(store=StoreSettings(url="sqlite:/x/y.db"))) == Path("/x/y.db")
