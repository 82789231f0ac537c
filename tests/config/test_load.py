"""Layers, origins, and everything that is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.cli.config_cmd import toml_value
from trionode.config.fields import Field, all_fields
from trionode.config.load import Problem, RefusedSettings, load, parse_assignment
from trionode.config.tomllines import key_lines
from trionode.config.tree import Settings
from trionode.config.withouteffect import FORMER_SETTINGS
from trionode.errors import ConfigError


def write(tmp_path: Path, text: str, name: str = "t.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(*paths: Path, env: dict[str, str] | None = None, **flags: object) -> list[Problem]:
    with pytest.raises(RefusedSettings) as caught:
        load(paths, env, {key.replace("__", "."): value for key, value in flags.items()})
    return list(caught.value.problems)


def test_no_layer_gives_the_defaults() -> None:
    loaded = load()
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert set(loaded.origins) == set(all_fields())


def test_later_layers_win_and_origins_tell(tmp_path: Path) -> None:
    first = write(tmp_path, "[peers]\nping_interval_s = 1\nmax_missed_pongs = 5\nmin_inbound = 6\n", "a.toml")
    second = write(tmp_path, "\n[peers]\nping_interval_s = 2\n", "b.toml")
    loaded = load(
        [first, second],
        {"TRIONODE_PEERS__PING_INTERVAL_S": "3", "TRIONODE_PEERS__MIN_INBOUND": "7", "PATH": "/bin"},
        {"peers.ping_interval_s": "4"},
    )
    peers = loaded.settings.peers
    assert (peers.ping_interval_s, peers.max_missed_pongs, peers.min_inbound) == (4.0, 5, 7)
    assert loaded.origins["peers.ping_interval_s"] == "--set peers.ping_interval_s"
    assert loaded.origins["peers.max_missed_pongs"] == f"{first}:3"
    assert loaded.origins["peers.min_inbound"] == "TRIONODE_PEERS__MIN_INBOUND"
    assert loaded.origins["peers.min_outbound"] == "default"
    assert loaded.files == (str(first), str(second))
    again = load([first, second])
    assert again.origins["peers.ping_interval_s"] == f"{second}:3"


def test_file_values_are_typed() -> None:
    overrides: dict[str, object] = {
        "peers.ping_interval_s": 2,
        "peers.invite_backoff_s": [1, 2.5],
        "api.event_stream": False,
        "log.level": "debug",
    }
    settings = load(overrides=overrides).settings
    assert settings.peers.ping_interval_s == 2.0
    assert isinstance(settings.peers.ping_interval_s, float)
    assert settings.peers.invite_backoff_s == (1.0, 2.5)
    assert settings.api.event_stream is False


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("peers.min_inbound", "7", 7),
        ("peers.min_inbound", "1_000", 1000),
        ("peers.ping_interval_s", "2", 2.0),
        ("api.event_stream", "false", False),
        ("peers.invite_backoff_s", "2, 5,10", (2.0, 5.0, 10.0)),
        ("peers.invite_backoff_s", "[2, 5]", (2.0, 5.0)),
        ("hosting.blocked_repositories", "a/b,c", ("a/b", "c")),
        ("hosting.blocked_repositories", '["a/b"]', ("a/b",)),
        ("hosting.blocked_ports", "", ()),
        ("node.operator_id", "12345", "12345"),
        ("node.operator_id", "true", "true"),
        ("node.operator_id", '"quoted"', '"quoted"'),
        ("chain.daemon_password", "a=b#c", "a=b#c"),
    ],
)
def test_texts_of_environment_and_flags(key: str, text: str, value: object) -> None:
    section, name = key.split(".")
    for loaded in (
        load(overrides={key: text}),
        load(env={f"TRIONODE_{section.upper()}__{name.upper()}": text}),
    ):
        assert getattr(getattr(loaded.settings, section), name) == value


def test_bad_value_names_file_line_key_range_and_default(tmp_path: Path) -> None:
    path = write(tmp_path, "# top\n[peers]\n\n  ping_interval_s = 0 # too quick\n")
    (problem,) = problems_of(path)
    assert problem.one_line() == (
        f"{path}:4: peers.ping_interval_s must be a number > 0, not 0"
        " - correct it, or remove it for the default 15.0"
    )


def test_unknown_key_names_the_likely_one(tmp_path: Path) -> None:
    path = write(tmp_path, "[peers]\nping_intervall_s = 1\n")
    (problem,) = problems_of(path)
    assert problem.one_line() == (
        f"{path}:2: unknown setting peers.ping_intervall_s - did you mean peers.ping_interval_s?"
    )


def test_all_problems_are_collected_and_the_first_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "api_port = 1\n[peer]\nx = 1\n[log]\nlevel = 'loud'\n[node]\napi_port = 'x'\n")
    with pytest.raises(RefusedSettings) as caught:
        load([path], {"TRIONODE_LOG__FORMAT": "xml", "TRIONODE_NODE__NOPE": "1"}, {"a.b": "1"})
    problems = caught.value.problems
    assert [(p.where.removeprefix(f"{path}:"), p.key) for p in problems] == [
        ("1", "api_port"),
        ("2", "peer"),
        ("5", "log.level"),
        ("7", "node.api_port"),
        ("TRIONODE_LOG__FORMAT", "log.format"),
        ("TRIONODE_NODE__NOPE", "node.nope"),
        ("--set a.b", "a.b"),
    ]
    assert problems[0].remedy == "did you mean node.api_port?"
    assert problems[1].remedy == "did you mean [peers]?"
    line = caught.value.one_line()
    assert line.startswith(f"{path}:1: unknown setting api_port - did you mean node.api_port?")
    assert "and 6 more" in line


def test_value_inside_a_list_is_pointed_at(tmp_path: Path) -> None:
    path = write(tmp_path, "[peers]\ninvite_backoff_s = [\n  1,\n  -2,\n]\n")
    (problem,) = problems_of(path)
    assert problem.where == f"{path}:2"
    assert "expected float >= 0.0 at [1]" in problem.message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1", None, [1]])
def test_a_number_is_a_finite_number(value: object) -> None:
    (problem,) = problems_of(peers__ping_interval_s=[value] if value == "1" else value)
    assert problem.key == "peers.ping_interval_s"


@pytest.mark.parametrize("value", [0.5, True, "x", 0, 65536])
def test_a_port_is_a_whole_number_in_range(value: object) -> None:
    (problem,) = problems_of(node__api_port=value)
    assert "whole number >= 1 and <= 65535" in problem.message


def test_section_that_is_no_table(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, "peers = 3\n"))
    assert problem.message == "unknown setting peers"


def test_a_setting_known_to_have_no_effect_is_passed_over_and_told(tmp_path: Path) -> None:
    path = write(tmp_path, "[router]\nrouter_ip = '192.168.1.1'\n\n[monitors]\ncpu_interval_s = 60\n")
    loaded = load(
        [path],
        {"TRIONODE_SERVICES__RELEASES_URL": "http://x"},
        {"chain.poll_interval_s": 7, "boot.volumes_delay_s": 1},
    )
    assert loaded.settings.chain.poll_interval_s == 7
    assert [(note.where, note.key) for note in loaded.notes] == [
        (f"{path}:2", "router.router_ip"),
        (f"{path}:5", "monitors.cpu_interval_s"),
        ("TRIONODE_SERVICES__RELEASES_URL", "services.releases_url"),
        ("--set boot.volumes_delay_s", "boot.volumes_delay_s"),
    ]
    assert (
        loaded.notes[0]
        .one_line()
        .startswith(f"{path}:2: router.router_ip has no effect - there is no UPnP: forward")
    )
    (problem,) = problems_of(write(tmp_path, "[router]\nrouter = 1\n", "b.toml"))
    assert problem.message == "unknown setting router.router"


def test_what_has_no_effect_is_no_setting() -> None:
    assert not set(FORMER_SETTINGS) & set(all_fields())
    for text in FORMER_SETTINGS.values():
        for key in re.findall(r"`([a-z_]+\.[a-z_]+)`", text):
            assert key in all_fields()


def test_environment_names_without_double_underscore(tmp_path: Path) -> None:
    assert load(env={"TRIONODE_CONFIG": "/x", "TRIONODE_SOMETHING": "1"}).settings == Settings()
    (problem,) = problems_of(env={"TRIONODE_PEERS_MIN_INBOUND": "1"})
    assert problem.remedy == "write TRIONODE_PEERS__MIN_INBOUND"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no configuration file .*nope\.toml"):
        load([tmp_path / "nope.toml"])
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        load([tmp_path])
    broken = write(tmp_path, "[peers\n")
    with pytest.raises(ConfigError, match=r"t\.toml is not valid TOML: .*line 1"):
        load([broken])
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'[node]\ndata_dir = "\xff"\n')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load([latin])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"node.api_port": 16128}, "node.api_port = 16128 is not a port that peers accept"),
        ({"gossip.intake_delay_min_ms": 80}, "gossip.intake_delay_min_ms = 80 is greater than"),
        ({"images.update_first_max_s": 1}, "images.update_first_min_s = 600.0 is greater than"),
        ({"peers.threshold_below": 13}, "peers.threshold_below = 13 is greater than"),
        ({"chain.confirmation_expired_s": 7}, "chain.confirmation_stale_s"),
        ({"store.url": "postgres://x"}, "names no store that trionode knows"),
        ({"registry.banned_ports": ["1-2", "9-3"]}, "holds '9-3'"),
        ({"registry.enterprise_ports": ["x"]}, "holds 'x'"),
        ({"registry.enterprise_ports": ["70000"]}, "holds '70000'"),
    ],
)
def test_values_that_do_not_go_together(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedSettings) as caught:
        load(overrides=overrides)
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0].message


def test_conflicts_name_where_the_culprit_stands(tmp_path: Path) -> None:
    path = write(tmp_path, "[network]\nallowed_api_ports = [17000]\n")
    (problem,) = problems_of(path)
    assert problem.where == f"{path}:2"
    assert problem.remedy == "use one of 17000"
    both = load([path], {"TRIONODE_NODE__API_PORT": "17000"}).settings
    assert both.node.api_port == 17000


def test_prices_by_height(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "[[economy.prices]]\nheight = 10\ncpu = 1\nram = 1\nhdd = 1\nminimum = 1\n"
        "[[economy.prices]]\nheight = 5\ncpu = 1\nram = 1\nhdd = 1\nminimum = 1\n",
    )
    (problem,) = problems_of(path)
    assert problem.message == "economy.prices is not ordered by height"
    assert problem.where == f"{path}:1"


def test_assignments() -> None:
    assert parse_assignment("a.b = c=d") == ("a.b", "c=d")
    for bad in ("a.b", "=x", ""):
        with pytest.raises(ConfigError, match="is no assignment"):
            parse_assignment(bad)


def test_lines_of_keys() -> None:
    text = (
        'a = 1 # [x]\n[one]\n"b c" = 2\nd.e = 3\nlist = [\n  1,\n]\ntext = """\n[two]\nf = 1\n"""\n'
        "[ two . three ]\ng = {h = 1}\n[[rows]]\ni = 1\n[[rows]]\ni = 2\n"
    )
    assert dict(key_lines(text)) == {
        ("a",): 1,
        ("one",): 2,
        ("one", "b c"): 3,
        ("one", "d"): 4,
        ("one", "d", "e"): 4,
        ("one", "list"): 5,
        ("one", "text"): 8,
        ("two", "three"): 12,
        ("two", "three", "g"): 13,
        ("rows",): 14,
        ("rows", "i"): 15,
    }


def test_written_as_toml_every_default_reads_back_the_same(tmp_path: Path) -> None:
    by_section: dict[str, list[Field]] = {}
    for field in all_fields().values():
        by_section.setdefault(field.section, []).append(field)
    lines = []
    for section, fields in by_section.items():
        lines.append(f"[{section}]")
        lines += [f"{f.name} = {toml_value(msgspec.to_builtins(f.default))}" for f in fields]
    path = write(tmp_path, "\n".join(lines))
    loaded = load([path])
    assert loaded.settings == Settings()
    assert "default" not in loaded.origins.values()


TEXT_WITHOUT_SURROGATES = st.text(st.characters(exclude_categories=["Cs"]))


@given(text=TEXT_WITHOUT_SURROGATES)
def test_any_text_survives_being_written_as_toml(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(f"[node]\noperator_id = {toml_value(text)}\n", encoding="utf-8", newline="")
    assert load([path]).settings.node.operator_id == text


def _refused(key: str, value: str) -> RefusedSettings | None:
    try:
        load(overrides={key: value})
    except RefusedSettings as error:
        return error
    return None


@given(key=st.text(max_size=30), value=st.text(max_size=30))
def test_no_flag_can_do_more_than_be_refused(key: str, value: str) -> None:
    refused = _refused(key, value)
    assert refused is None or refused.problems[0].key == key


@given(key=st.sampled_from(sorted(all_fields())), value=st.text(max_size=30))
def test_no_value_can_do_more_than_be_refused(key: str, value: str) -> None:
    refused = _refused(key, value)
    assert refused is None or refused.one_line()
