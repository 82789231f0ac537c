"""Image block lists and architectures (docs/spec/registry.md §6, stage 7)."""

from __future__ import annotations

from typing import Any

import pytest
from appspecs import OWNER, component, spec

from trionode.registry.images import (
    BlockKind,
    BlockLists,
    common_architectures,
    find_block,
    image_of,
    images_of,
    is_vetted,
    organisation_of,
    repotags_to_check,
)


def app(*repotags: str, **changes: Any) -> dict[str, Any]:
    parts = [component(8, name=f"c{n}", repotag=tag) for n, tag in enumerate(repotags)]
    return spec(8, compose=parts, **changes)


@pytest.mark.parametrize(
    ("repotag", "image", "organisation"),
    [
        ("nginx:1.25", "nginx", "nginx"),
        ("runonflux/web:latest", "runonflux/web", "runonflux"),
        ("ghcr.io/org/app:v1", "ghcr.io/org/app", "ghcr.io/org"),
        ("org/app", "org/app", "org"),
        ("host:5000/app:v1", "host:5000/app", "host:5000"),
        ("host:5000/app", "host", "host"),
    ],
)
def test_image_and_organisation(repotag: str, image: str, organisation: str) -> None:
    assert image_of(repotag) == image
    assert organisation_of(image) == organisation


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ("the-hash", BlockKind.HASH),
        (OWNER, BlockKind.OWNER),
        ("bad/miner", BlockKind.IMAGE),
        ("bad/miner:latest", BlockKind.IMAGE),
        ("bad", BlockKind.ORGANISATION),
    ],
)
def test_the_network_blocks_by_four_names(entry: str, kind: BlockKind) -> None:
    found = find_block(app("nginx:1", "bad/miner:v2"), "the-hash", BlockLists(blocked=["x", entry]))
    assert found is not None
    assert (found.kind, found.entry) == (kind, entry)
    assert found.value in found.sentence


@pytest.mark.parametrize("entry", ["Bad", "bad/mine", "miner", "", "other-hash"])
def test_other_entries_do_not_block(entry: str) -> None:
    assert find_block(app("bad/miner:v2"), "", BlockLists(blocked=[entry])) is None


def test_an_operator_blocks_as_typed() -> None:
    spec_ = app("Bad/Miner:v2")
    found = find_block(spec_, "", BlockLists(operator=["bad/miner"]))
    assert found is not None
    assert found.kind is BlockKind.OPERATOR
    assert "operator" in found.sentence
    assert find_block(spec_, "", BlockLists(operator=["bad"])) is not None
    assert find_block(spec_, "", BlockLists(operator=["Bad/Miner", "bad/miner:v2"])) is None


def test_an_operator_cannot_block_vetted_apps_or_what_the_marketplace_offers() -> None:
    spec_ = app("good/app:v2")
    assert is_vetted(spec_, "", BlockLists(vetted=["good/app:v1"]))
    assert find_block(spec_, "", BlockLists(operator=["good"], vetted=["good/app:v1"])) is None
    assert find_block(spec_, "", BlockLists(operator=["good"], marketplace=["good"])) is None
    blocked = BlockLists(blocked=["good"], vetted=["good"], operator=["good"])
    assert find_block(spec_, "", blocked) is not None


def test_flat_apps_have_one_image() -> None:
    assert images_of(spec(2)) == ["nginx"]
    assert repotags_to_check(spec(2)) == (["nginx:1.25"], True)


def test_registry_credentials_of_v7_end_the_look() -> None:
    parts = [component(7), component(7, name="b", repoauth="secret"), component(7, name="c")]
    assert repotags_to_check(spec(7, compose=parts)) == (["nginx:1.25"], False)
    assert repotags_to_check(app("a:1", "b:2")) == (["a:1", "b:2"], True)


@pytest.mark.parametrize(
    ("offered", "enterprise", "common"),
    [
        ([["amd64", "arm64"], ["arm64"]], False, ("arm64",)),
        ([["amd64"], ["arm64"]], False, ()),
        ([["amd64", "arm64", "s390x"]], False, ("amd64", "arm64")),
        ([["amd64", "arm64"], ["arm64"]], True, ()),
        ([["amd64", "arm64"], ["amd64"]], True, ("amd64",)),
        ([], False, ()),
    ],
)
def test_architectures_in_common(offered: list[list[str]], enterprise: bool, common: tuple[str, ...]) -> None:
    assert common_architectures(offered, enterprise=enterprise) == common


@pytest.mark.parametrize("repotag", [1.5, ["a", "bad/miner:1"], 7])
def test_what_the_network_takes_for_a_name_of_an_image_is_compared_and_never_an_error(repotag: Any) -> None:
    spec = {"version": 8, "name": "odd", "owner": "1Owner", "compose": [{"repotag": repotag}]}
    lists = BlockLists(blocked=("bad/miner",), operator=("bad/miner",))
    assert find_block(spec, "aa", lists) is None
