"""The settings tree described: every setting has a meaning, a range and a valid default."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from trionode.config.fields import SECTIONS, all_fields, suggest, suggest_section
from trionode.config.tree import Settings

ROOT = Path(__file__).resolve().parents[2]
UNITS = re.compile(r"_(s|ms|us|bytes|blocks|height|mb|gb|tenths|days)$")
NAMED_AFTER_TIME = re.compile(r"(timeout|interval|delay|ttl|expiry|window|spacing|period|wait|grace)(?!.*_)")


@pytest.mark.parametrize("field", all_fields().values(), ids=lambda field: field.key)
def test_every_setting_is_described_and_its_default_accepted(field) -> None:  # type: ignore[no-untyped-def]
    assert field.meaning, "a meaning is missing"
    assert field.accepts
    plain = msgspec.to_builtins(field.default)
    assert msgspec.convert(plain, type=field.hint) == field.default


def test_durations_carry_their_unit() -> None:
    bare = [
        f.key for f in all_fields().values() if NAMED_AFTER_TIME.search(f.name) and not UNITS.search(f.name)
    ]
    assert bare == []


def test_defaults_of_the_tree_and_of_its_description_agree() -> None:
    settings = Settings()
    for field in all_fields().values():
        assert getattr(getattr(settings, field.section), field.name) == field.default


def test_accepted_ranges_in_words() -> None:
    words = {key: field.accepts for key, field in all_fields().items()}
    assert words["peers.ping_interval_s"] == "number > 0"
    assert words["node.api_port"] == "whole number >= 1 and <= 65535"
    assert words["log.level"] == "one of debug, info, warning, error"
    assert words["api.event_stream"] == "true or false"
    assert words["peers.invite_backoff_s"] == "list of numbers >= 0 (at least 1)"
    assert words["node.data_dir"] == "text, not empty"
    assert words["node.compatibility_version"] == "text like 1.2.3"
    assert words["economy.prices"].startswith("list of tables of height, cpu,")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("peers.min_outbuond", "peers.min_outbound"),
        ("api_port", "node.api_port"),
        ("log.api_port", "node.api_port"),
        ("peers.wsPingIntervalMs", "peers.ping_interval_s"),
        ("fluxapps.minOutgoing", "peers.min_outbound"),
        ("node.zelid", "node.operator_id"),
        ("completely.different", None),
    ],
)
def test_suggestions(typed: str, meant: str | None) -> None:
    assert suggest(typed) == meant


def test_section_suggestions() -> None:
    assert suggest_section("peer") == "peers"
    assert suggest_section("zzz") is None


def test_documentation_is_up_to_date() -> None:
    script = ROOT / "scripts" / "gen_config_docs.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_documentation_covers_every_key_of_the_original() -> None:
    """Each key named in the first column of the tables of the spec appears in docs/config.md."""
    spec = (ROOT / "docs" / "spec" / "config.md").read_text(encoding="utf-8")
    ours = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    database = spec.index("## 2."), spec.index("## 3.")
    spec = spec[: database[0]] + spec[database[1] :]
    units = {"MB", "GB", "month", "standard", "periods", "key", "s"}
    rows = [line for line in spec.splitlines() if line.startswith("|") and not line.startswith("|---")]
    words = [word for row in rows for word in re.findall(r"[A-Za-z][A-Za-z0-9.]+", row.split("|")[1])]
    assert len(words) > 100
    missing = [word for word in words if word not in units and word.rpartition(".")[2] not in ours]
    assert missing == []


def test_every_setting_is_in_the_documentation() -> None:
    ours = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    for section in SECTIONS:
        assert f"\n## [{section}]\n" in ours
    for field in all_fields().values():
        assert f"\n| {field.name} | " in ours


def test_no_file_of_the_tree_is_long() -> None:
    for path in (ROOT / "trionode" / "config").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 400, path.name
