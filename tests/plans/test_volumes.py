"""Room for volumes and where they lie (docs/spec/lifecycle.md §12 "Volume")."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.config.tree import ResourceSettings
from trionode.plans.containerdata import parse_container_data
from trionode.plans.volumes import (
    GB,
    USUAL_RULES,
    DataVolume,
    SpaceRules,
    allotment_problem,
    entries,
    image_file,
    is_plain_path,
    is_volume_name,
    place_for,
    reserve_gb,
    space_problem,
    space_rules,
    volume_of_file,
)

SETTINGS = ResourceSettings()


def disk(free_gb: float, used_gb: float, point: str = "/") -> DataVolume:
    return DataVolume("/dev/sda1", point, round(free_gb * GB), round(used_gb * GB))


@pytest.mark.parametrize(
    ("used_gb", "kept_gb"), [(0, 80), (30, 50), (60, 20), (79, 20), (80, 20), (81, 20), (5000, 20)]
)
def test_what_the_system_takes_counts_towards_what_is_kept(used_gb: float, kept_gb: float) -> None:
    assert reserve_gb([disk(1, used_gb)]) == kept_gb


def test_used_space_is_rounded_up_and_free_space_down() -> None:
    measured = disk(30.9, 60.1)
    assert (measured.free_gb, measured.used_gb) == (30, 61)


@pytest.mark.parametrize(("size_gb", "fits"), [(1, True), (79, True), (79.5, True), (80, False), (81, False)])
def test_a_volume_is_smaller_than_what_is_free_beyond_the_reserve(size_gb: float, fits: bool) -> None:
    volumes = [disk(100, 80)]
    assert (place_for(size_gb, volumes) is not None) == fits
    assert (space_problem(size_gb, volumes) is None) == fits


def test_the_first_disk_that_can_hold_it_whole_is_taken() -> None:
    small, large, larger = disk(50, 50, "/"), disk(200, 50, "/data"), disk(300, 0, "/more")
    assert place_for(20, [small, large, larger]) is small
    assert place_for(30, [small, large, larger]) is large
    assert place_for(190, [small, large, larger]) is larger
    # together they had room, none of them has
    assert place_for(290, [small, large, larger]) is None
    problem = space_problem(290, [small, large, larger])
    assert problem is not None
    assert "290 GB" in problem
    assert "3 disks" in problem


def test_without_a_disk_there_is_no_place() -> None:
    assert place_for(1, []) is None


def test_fractions_count_only_where_they_are_asked_for() -> None:
    volumes = [disk(0.9, 0)]
    assert place_for(0.1, volumes, SpaceRules(0, 0)) is None
    assert place_for(0.1, volumes, SpaceRules(0, 0, whole=False)) is not None
    assert place_for(1, volumes, SpaceRules(0, 0, whole=False)) is None


@given(st.floats(0.01, 5000), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=4))
def test_a_place_always_keeps_the_reserve(size_gb: float, sizes: list[tuple[int, int]]) -> None:
    volumes = [disk(free, used, f"/d{number}") for number, (free, used) in enumerate(sizes)]
    place = place_for(size_gb, volumes)
    if place is not None:
        assert place.free_gb - size_gb > max(20, 80 - sum(used for _, used in sizes))


def test_the_rules_follow_the_settings() -> None:
    assert space_rules(SETTINGS) == USUAL_RULES


@pytest.mark.parametrize(
    ("locked_gb", "fits"),
    [(10 + 12, True), (100 + 22, True), (130 + 12, True), (289 + 22, True), (290 + 22, False), (400, False)],
)
def test_the_measured_disk_has_room_with_the_app_itself_counted_back(locked_gb: float, fits: bool) -> None:
    # 400 GB: 380 usable, 300 beyond what the system keeps
    problem = allotment_problem(10, ssd_gb=400, locked_gb=locked_gb, settings=SETTINGS)
    assert (problem is None) == fits


def test_the_room_of_the_measured_disk_is_exact() -> None:
    # 300 - locked + 10 + 12 must be above 10
    assert allotment_problem(10, ssd_gb=400, locked_gb=311.9, settings=SETTINGS) is None
    assert allotment_problem(10, ssd_gb=400, locked_gb=312, settings=SETTINGS) == (
        "A volume of 10 GB is wanted, 10 GB are left for apps on this node."
    )


def test_image_files_lie_on_their_disk_or_beside_the_apps() -> None:
    assert image_file("fluxa", "/data", "/srv/apps") == "/data/fluxaFLUXFSVOL"
    assert image_file("fluxa", "/", "/srv/apps") == "/srv/appvolumes/fluxaFLUXFSVOL"
    assert image_file("fluxa", "/", "/srv/apps/") == "/srv/appvolumes/fluxaFLUXFSVOL"
    assert image_file("fluxa", "/", "/apps") == "/appvolumes/fluxaFLUXFSVOL"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/fluxweb_shopFLUXFSVOL", "fluxweb_shop"),
        ("/data/fluxweb_shopFLUXFSVOL.unfinished", "fluxweb_shop"),
        ("/data/zelKadenaChainWebNodeFLUXFSVOL", "zelKadenaChainWebNode"),
        ("/data/FLUXFSVOL", None),
        ("/data/fluxweb_shop", None),
        ("/data/fluxweb_shopFLUXFSVOL.old", None),
        ("/data/otherFLUXFSVOL", None),
    ],
)
def test_whose_file_it_is(path: str, name: str | None) -> None:
    assert volume_of_file(path) == name


@pytest.mark.parametrize("name", ["fluxweb_shop", "fluxshop", "zelFoldingAtHomeB", "flux1", "fluxa-b_c.d"])
def test_names_of_containers(name: str) -> None:
    assert is_volume_name(name)


@given(st.text(alphabet=" ;|&$`'\"\\/\n\t\0#%*?~<>()ü", min_size=1))
def test_no_name_can_say_more_than_a_name(signs: str) -> None:
    assert not is_volume_name(f"flux{signs}")
    assert not is_volume_name(f"fluxa{signs}b")


@pytest.mark.parametrize("path", ["/", "/data", "/srv/my-apps_1.0/x"])
def test_plain_paths(path: str) -> None:
    assert is_plain_path(path)


@pytest.mark.parametrize(
    "path", ["", "data", "/a b", "/a%b", "/a;b", "/a/../b", "/a//b", "/a\n", "/a#", "/$a"]
)
def test_paths_that_would_need_quoting(path: str) -> None:
    assert not is_plain_path(path)


def test_a_volume_holds_its_own_folders_and_files_only() -> None:
    mounts = parse_container_data("/data|m:media:/media|f:a.conf:/a.conf|0:/zero|c:0:logs:/logs").mounts
    assert [(entry.name, entry.is_file) for entry in entries(mounts, syncs=False)] == [
        ("appdata", False),
        ("media", False),
        ("a.conf", True),
    ]


def test_file_sync_finds_its_marker_and_passes_over_backups() -> None:
    made = {entry.name: entry for entry in entries((), syncs=True)}
    assert set(made) == {"appdata", ".stfolder", ".stignore"}
    assert made[".stignore"].content == "/backup\n"
    assert not made[".stfolder"].is_file
