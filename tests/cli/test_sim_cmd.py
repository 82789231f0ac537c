"""`trionode sim`: what a person and a program get to read, and the exit codes."""

from __future__ import annotations

import json

import pytest

from trionode.cli.main import call
from trionode.sim import scenarios
from trionode.sim.scenario import Scenario, ScenarioError
from trionode.sim.world import World, WorldPlan


def test_list_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["sim", "list"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == list(scenarios.SCENARIOS)
    assert call(["sim", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0].keys() == {"name", "summary", "nodes"}


def test_run_says_seed_and_speed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["sim", "run", "restart", "--seed", "8", "--nodes", "14"]) == 0
    out = capsys.readouterr().out
    assert "seed 8" in out
    assert "virtual seconds per real second" in out
    assert call(["sim", "run", "restart", "--seed", "8", "--nodes", "14", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["scenario"], report["seed"], report["nodes"]) == ("restart", 8, 14)
    assert report["trace"][:16] in out


def test_a_failure_prints_the_replay_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        world.note("a last line")
        raise ScenarioError("broken on purpose")

    broken = Scenario(name="broken", summary="x", story=story, plan=WorldPlan(nodes=4))
    monkeypatch.setitem(scenarios.SCENARIOS, "broken", broken)
    assert call(["sim", "run", "broken", "--trace", "5"]) == 1
    captured = capsys.readouterr()
    seed = captured.out.split("seed ")[1].split()[0]
    assert f"`trionode sim run broken --seed {seed} --nodes 4`" in captured.err
    assert "broken on purpose" in captured.err
    assert "a last line" in captured.err


def test_an_unknown_name_is_a_config_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["sim", "run", "nothing"]) == 3
    assert "use one of converge" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seeds", "problem"),
    [("7", "no range"), ("5-1", "no range"), ("1-99999999999", "at most 100000"), ("0-100000", "at most")],
)
def test_ranges_that_cannot_be_meant(capsys: pytest.CaptureFixture[str], seeds: str, problem: str) -> None:
    assert call(["sim", "run", "--seeds", seeds]) == 2
    assert problem in capsys.readouterr().err
