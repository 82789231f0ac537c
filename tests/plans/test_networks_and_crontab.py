"""Subnets of apps, and the crontab lines of their volumes."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from trionode.plans.crontab import (
    KeepJob,
    MissingJob,
    MountJob,
    RemoveJob,
    ReplaceJob,
    is_wiped,
    mount_job,
    plan_jobs,
    read_jobs,
)
from trionode.plans.networks import (
    CreateNetwork,
    NetworkState,
    ReuseNetwork,
    Subnet,
    app_of_address,
    app_of_network,
    network_body,
    next_free_address,
    plan_network,
)


@given(st.sets(st.integers(0, 255)), st.integers(0, 2**32))
def test_a_subnet_nobody_has_the_same_for_the_same_seed(taken: set[int], seed: int) -> None:
    networks = {f"n{octet}": [Subnet(octet).cidr] for octet in taken}
    plan = plan_network("a", networks, random.Random(seed), tries=21)
    assert plan == plan_network("a", networks, random.Random(seed), tries=21)
    assert isinstance(plan, CreateNetwork)
    octets = [subnet.octet for subnet in plan.subnets]
    assert not taken & set(octets)
    assert len(octets) == min(21, 256 - len(taken))


def test_networks_that_are_there_and_names_of_old() -> None:
    plan = plan_network("a", {"fluxDockerNetwork_a": []}, random.Random(1), tries=21)
    assert isinstance(plan, ReuseNetwork)
    legacy = plan_network("fdm", {}, random.Random(1), tries=21)
    assert isinstance(legacy, CreateNetwork)
    assert legacy.subnets == (Subnet(ord("m")),)
    wide = plan_network("a", {"other": ["172.16.0.0/12", "no subnet"]}, random.Random(1), tries=21)
    assert isinstance(wide, CreateNetwork)
    assert wide.subnets == ()
    assert app_of_network("fluxDockerNetwork_my_app") == "my_app"
    assert app_of_network("bridge") is None
    assert network_body("n", Subnet(3), "a")["Labels"] == {"trionode.app": "a"}


@given(st.sets(st.integers(2, 254)))
def test_the_lowest_free_address(taken: set[int]) -> None:
    state = NetworkState("172.23.5.0/24", "172.23.5.1", frozenset(f"172.23.5.{n}" for n in taken))
    free = sorted(set(range(2, 255)) - taken)
    assert next_free_address(state) == (f"172.23.5.{free[0]}" if free else None)


def test_an_address_tells_its_app() -> None:
    networks = [("172.23.1.0/24", "a"), ("nonsense", "b"), ("172.23.10.0/24", "c")]
    assert app_of_address("172.23.10.9", networks) == "c"
    assert app_of_address("nonsense", networks) is None


@given(st.from_regex(r"[A-Za-z0-9]{1,8}_[A-Za-z0-9]{1,8}", fullmatch=True))
def test_a_job_we_write_is_the_job_we_read(identifier: str) -> None:
    job = mount_job(identifier, f"/mnt/flux{identifier}FLUXFSVOL", f"/apps/flux{identifier}")
    assert read_jobs([job.line(), "@reboot other", "* * * * * x"]) == [job]
    assert job.waits
    assert job.upgraded() == job


def test_what_becomes_of_the_jobs() -> None:
    kept = mount_job("web_a", "/m/fluxweb_aFLUXFSVOL", "/apps/fluxweb_a")
    old = MountJob("sudo mount -o loop /m/fluxdb_aFLUXFSVOL /apps/fluxdb_a", "fluxdb_a")
    gone = MountJob("sudo mount -o loop /m/fluxweb_bFLUXFSVOL /apps/fluxweb_b")
    encrypted = mount_job("web_enc", "/m/fluxweb_encFLUXFSVOL", "/apps/fluxweb_enc")
    containers = ("fluxweb_a", "fluxdb_a", "fluxnew_a")
    steps = plan_jobs([kept, old, gone, encrypted], containers, unread_apps=("enc",))
    assert steps == (
        KeepJob(kept),
        ReplaceJob(old, old.upgraded()),
        RemoveJob(gone),
        KeepJob(encrypted),
        MissingJob("fluxnew_a"),
    )
    assert is_wiped([], containers)
    assert not is_wiped([], ())
