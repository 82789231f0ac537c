"""`trionode config`: show, origins, secrets, check."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from trionode.cli.main import call
from trionode.config.fields import all_fields


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIONODE_CONFIG", raising=False)


def test_show_is_toml_of_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["config", "show"]) == 0
    tables = tomllib.loads(capsys.readouterr().out)
    assert sum(len(table) for table in tables.values()) == len(all_fields())
    assert tables["node"]["api_port"] == 16127
    assert tables["economy"]["prices"][0]["height"] == -1


def test_origins(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[log]\nlevel = 'error'\n")
    monkeypatch.setenv("TRIONODE_LOG__FILE", "/tmp/x.log")
    arguments = ["--config", str(file), "--set", "log.format=json", "config", "show", "log", "--origin"]
    assert call(arguments) == 0
    out = capsys.readouterr().out
    shown = [line for line in out.splitlines() if " = " in line]
    origins = {line.split(" = ")[0]: line.split("# ")[-1] for line in shown}
    assert origins["level"] == f"{file}:2"
    assert origins["file"] == "TRIONODE_LOG__FILE"
    assert origins["format"] == "--set log.format"
    assert origins["keep_files"] == "default"
    assert call([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows["log.level"] == {"value": "error", "origin": f"{file}:2"}


def test_only_what_was_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--set", "log.level=debug", "config", "show", "--changed"]) == 0
    assert capsys.readouterr().out == '[log]\nlevel = "debug"\n'


def test_verbose_means_debug_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["-v", "config", "show", "log.level"]) == 0
    assert 'level = "debug"' in capsys.readouterr().out
    assert call(["-v", "--set", "log.level=error", "config", "show", "log.level"]) == 0
    assert 'level = "error"' in capsys.readouterr().out


def test_passwords_are_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    setting = ["--set", "chain.daemon_password=hunter2"]
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        assert call([*setting, *arguments]) == 0
        assert "hunter2" not in capsys.readouterr().out
    assert call([*setting, "config", "show", "chain.daemon_password", "--secrets"]) == 0
    assert "hunter2" in capsys.readouterr().out


def test_unknown_key_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["config", "show", "peers.ping"]) == 3
    assert "did you mean peers.ping_interval_s?" in capsys.readouterr().err


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The file alone is checked: the environment has its own mistakes.
    monkeypatch.setenv("TRIONODE_NODE__API_PORT", "nonsense")
    good = tmp_path / "good.toml"
    good.write_text("[log]\nlevel = 'error'\n[peers]\nmin_inbound = 3\n")
    assert call(["config", "check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: 2 settings, all accepted\n"
    old = tmp_path / "old.toml"
    old.write_text("[log]\nlevel = 'error'\n[file_sync]\nport = 8384\n")
    assert call(["config", "check", str(old)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{old}: 1 settings, all accepted\n"
    assert captured.err.startswith(f"trionode: {old}:4: file_sync.port has no effect - Syncthing is not")
    assert call(["config", "check", str(old), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["withoutEffect"]
    assert [note["key"] for note in told] == ["file_sync.port"]
    bad = tmp_path / "bad.toml"
    bad.write_text("[log]\nlevel = 'loud'\n[peers]\nmin_inbund = 3\n")
    assert call(["config", "check", str(bad)]) == 3
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 2
    assert error[0].startswith(f"trionode: {bad}:2: log.level must be one of debug, info, warning, error")
    assert error[1].startswith(f"trionode: {bad}:4: unknown setting peers.min_inbund - did you mean")
    assert call(["config", "check", str(bad), "--json"]) == 3
    assert [problem["key"] for problem in json.loads(capsys.readouterr().out)["problems"]] == [
        "log.level",
        "peers.min_inbund",
    ]
    assert call(["config", "check", "nowhere.toml"]) == 3
    assert "there is no configuration file nowhere.toml" in capsys.readouterr().err


def test_which_file_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def level() -> str:
        assert call(["config", "show", "log.level"]) == 0
        return capsys.readouterr().out.split('"')[1]

    assert level() == "info"
    (tmp_path / ".trionode").mkdir()
    (tmp_path / ".trionode" / "trionode.toml").write_text("[log]\nlevel = 'debug'\n")
    assert level() == "debug"
    (tmp_path / "trionode.toml").write_text("[log]\nlevel = 'warning'\n")
    assert level() == "warning"
    (tmp_path / "env.toml").write_text("[log]\nlevel = 'error'\n")
    monkeypatch.setenv("TRIONODE_CONFIG", str(tmp_path / "env.toml"))
    assert level() == "error"
    assert call(["--config", "nowhere.toml", "config", "show"]) == 3
