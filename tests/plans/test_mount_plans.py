"""Which volumes are mounted again and which containers hold on to a former mount (lifecycle.md §19)."""

from __future__ import annotations

import pytest

from trionode.lifecycle.local import Component, InstalledApp
from trionode.plans.mountrecovery import (
    ForgetVolume,
    RunningFacts,
    VolumeFacts,
    is_wiped,
    plan_forgetting,
    plan_mounts,
    plan_restarts,
)

APPS_DIR = "/srv/apps"
SHOP = InstalledApp("shop", "", (Component("web_shop", "/data"), Component("db_shop", "g:/data")))


def test_only_volumes_that_are_there_and_not_mounted_are_mounted() -> None:
    volumes = {
        "fluxweb_shop": VolumeFacts(is_mounted=False),
        "fluxdb_shop": VolumeFacts(is_mounted=True),
        "fluxweb_gone": VolumeFacts(is_mounted=False),
    }
    assert [step.volume for step in plan_mounts([SHOP], volumes)] == ["fluxweb_shop"]
    without_file = {"fluxweb_shop": VolumeFacts(is_mounted=False, has_file=False)}
    assert plan_mounts([SHOP], without_file) == ()


@pytest.mark.parametrize(
    ("started_ms", "mounted_ms", "is_mounted", "restarts"),
    [
        (1000, 2000, True, True),
        (2000, 1000, True, False),
        (1000, 1000, True, False),
        (1000, 2000, False, False),  # a restart would find nothing
        (None, 2000, True, False),
        (1000, None, True, False),
    ],
)
def test_who_started_before_the_mount_is_restarted(
    started_ms: int | None, mounted_ms: int | None, is_mounted: bool, restarts: bool
) -> None:
    running = RunningFacts("fluxweb_shop", started_ms, (f"{APPS_DIR}/fluxweb_shop/appdata",))
    volumes = {"fluxweb_shop": VolumeFacts(is_mounted, mounted_ms=mounted_ms)}
    steps = plan_restarts([SHOP], [running], volumes, APPS_DIR)
    assert [step.identifier for step in steps] == (["web_shop"] if restarts else [])


def test_the_folder_of_another_component_counts_and_other_folders_do_not() -> None:
    borrowed = RunningFacts("fluxweb_shop", 1000, (f"{APPS_DIR}/fluxdb_shop/appdata",))
    elsewhere = RunningFacts("fluxweb_shop", 1000, ("/srv/appsfluxdb_shop/appdata", "/etc"))
    volumes = {"fluxdb_shop": VolumeFacts(True, mounted_ms=2000)}
    assert [step.reason for step in plan_restarts([SHOP], [borrowed], volumes, APPS_DIR)] == [
        "fluxdb_shop was mounted after its start"
    ]
    assert plan_restarts([SHOP], [elsewhere], volumes, APPS_DIR) == ()


def test_a_volume_that_the_next_boot_would_not_mount_is_seen_to() -> None:
    volumes = {"fluxweb_shop": VolumeFacts(is_mounted=True, survives_reboot=False)}
    (step,) = plan_mounts([SHOP], volumes)
    assert (step.volume, step.vanished) == ("fluxweb_shop", False)


def test_only_volumes_of_nobody_are_forgotten() -> None:
    volumes = {
        "fluxweb_shop": VolumeFacts(is_mounted=True),
        "fluxdb_gone": VolumeFacts(is_mounted=False),
        "fluxold": VolumeFacts(is_mounted=False, survives_reboot=False),
    }
    assert [step.volume for step in plan_forgetting([SHOP], volumes)] == ["fluxdb_gone"]


@pytest.mark.parametrize(("volume", "kept"), [("fluxx_closed", True), ("fluxclosed", True), ("fluxx", False)])
def test_what_may_belong_to_an_app_that_cannot_be_opened_stays(volume: str, kept: bool) -> None:
    closed = InstalledApp("closed", "")
    assert plan_forgetting([closed], {volume: VolumeFacts(is_mounted=True)}) == (
        () if kept else (ForgetVolume(volume),)
    )


def test_wiped_is_when_nothing_is_left() -> None:
    one = {"fluxweb_shop": VolumeFacts(True, survives_reboot=False), "fluxdb_shop": VolumeFacts(True)}
    assert not is_wiped([SHOP], one)
    assert is_wiped([SHOP], {"fluxweb_shop": VolumeFacts(True, survives_reboot=False)})
    assert not is_wiped([SHOP], {})
    assert not is_wiped([], {"fluxgone": VolumeFacts(True, survives_reboot=False)})
