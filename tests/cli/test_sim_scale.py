"""`trionode sim scale`: table, JSON, picture, and what it says when matplotlib is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from trionode.cli.sim_scale import MODE_NAMES, command
from trionode.sim.scale.plot import PlotError
from trionode.sim.scale.spread import MODES

SMALL = ("--nodes", "60", "--messages", "1")


def test_the_names_of_the_command_are_those_of_the_model() -> None:
    assert MODE_NAMES == MODES


def test_a_table_for_people() -> None:
    result = CliRunner().invoke(command, [*SMALL, "--nodes", "80"])
    assert result.exit_code == 0, result.output
    for text in ("60 nodes", "80 nodes", "until 99 % have it, s", "hash, ask all", "seed 1"):
        assert text in result.output


def test_json_for_programs_has_every_figure() -> None:
    result = CliRunner().invoke(command, [*SMALL, "--mode", "hash", "--seed", "7", "--json"])
    assert result.exit_code == 0, result.output
    (picture,) = json.loads(result.output)
    assert picture["plan"]["nodes"] == 60
    assert picture["plan"]["seed"] == 7
    (outcome,) = picture["outcomes"]
    assert outcome["mode"] == "hash"
    assert outcome["reached"] == 1.0
    assert len(outcome["curve_s"]) == 101


def test_delays_may_be_those_a_node_has_measured(tmp_path: Path) -> None:
    rows = [{"ip": "1.2.3.4", "latency": ms} for ms in (3, 5, 7, 9, 400, None)]
    file = tmp_path / "peers.json"
    file.write_text(json.dumps(rows), "utf-8")
    result = CliRunner().invoke(command, [*SMALL, "--latencies", str(file)])
    assert result.exit_code == 0, result.output
    assert "up to 7 ms one way, nine tenths up to 400 ms (a sample of 5" in result.output


def test_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "scale.png"
    result = CliRunner().invoke(command, [*SMALL, "--nodes", "80", "--plot", str(file)])
    assert result.exit_code == 0, result.output
    assert file.read_bytes().startswith(b"\x89PNG")
    assert str(file) in result.output


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [*SMALL, "--plot", str(tmp_path / "none" / "scale.png")])
    assert isinstance(result.exception, PlotError)
    assert "scale.png" in result.exception.message


def test_without_matplotlib_it_says_what_to_install_before_it_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = CliRunner().invoke(command, ["--plot", str(tmp_path / "scale.png")])
    assert isinstance(result.exception, PlotError)
    assert "trionode[plot]" in result.exception.one_line()
    assert "nodes" not in result.output
