"""The files of a local network."""

from __future__ import annotations

import json
import random
import stat
from pathlib import Path

import pytest

from trionode.config.load import load
from trionode.devnet import layout
from trionode.errors import StartupError
from trionode.wire.keys import NodeKey


def test_every_node_gets_its_own_provider_and_settings_that_load(tmp_path: Path) -> None:
    plan = layout.plan(tmp_path, 4, 10)
    layout.write(plan, random.Random(7))
    assert [node.ip for node in plan.nodes] == ["127.11.0.1", "127.12.0.1", "127.13.0.1", "127.14.0.1"]
    for node in plan.nodes:
        settings = load([node.config], {}, {}).settings
        assert settings.node.bind_host == node.ip
        assert settings.network.allow_private_addresses
        assert settings.appstate.time_scale == 0.01


def test_keys_are_private_listed_and_kept_on_a_second_run(tmp_path: Path) -> None:
    plan = layout.plan(tmp_path, 2, 0)
    layout.write(plan, random.Random(1))
    first = [(node.folder / "node.key").read_text("ascii") for node in plan.nodes]
    layout.write(plan, random.Random(2))
    assert [(node.folder / "node.key").read_text("ascii") for node in plan.nodes] == first
    assert stat.S_IMODE((plan.nodes[0].folder / "node.key").stat().st_mode) == 0o600
    listed = {row["ip"]: row["pubkey"] for row in json.loads(plan.node_list.read_text("utf-8"))}
    assert listed == {
        node.ip: NodeKey.from_wif(wif.strip()).public_key for node, wif in zip(plan.nodes, first, strict=True)
    }


@pytest.mark.parametrize(("count", "offset"), [(0, 0), (61, 0), (4, 251), (4, -1)])
def test_what_does_not_fit_the_loopback_range_is_refused(tmp_path: Path, count: int, offset: int) -> None:
    with pytest.raises(StartupError, match="does not fit"):
        layout.plan(tmp_path, count, offset)
    assert list(tmp_path.iterdir()) == []
