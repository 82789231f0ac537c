"""Parts of a specification, their environment, and the container that comes of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.plans.createoptions import CreateOptions, create_options, docker_body
from trionode.plans.environment import Fetched, command, environment, open_secrets
from trionode.plans.logs import Collector, HostIdentity, LogFile, LogShipping, collector_of, plan_log
from trionode.plans.networks import NetworkState
from trionode.plans.parts import Part, parts_of
from trionode.plans.problem import NotKnownYet, PlanError

SECRET = "PASSWORD=hunter2"
TEXTS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10), max_size=5)


def options(part: Part, **more: object) -> CreateOptions:
    given = {
        "environment": part.environment,
        "command": part.commands,
        "log": LogFile(),
        "network": None,
        "apps_dir": "/apps",
        "host_service_ip": "169.254.43.43",
    }
    return create_options(part, [part.identifier], **{**given, **more})  # type: ignore[arg-type]


def component(**more: object) -> dict[str, object]:
    return {
        "name": "web",
        "repotag": "r/i:1",
        "containerData": "/d",
        "cpu": 0.5,
        "ram": 100,
        "hdd": 1,
        **more,
    }


def test_old_specifications_describe_one_container() -> None:
    one = {"version": 1, "name": "a", "port": "31000", "containerPort": 80, "containerData": "/d"}
    (part,) = parts_of(one) or ()
    assert (part.identifier, part.container, part.ports, part.container_ports) == (
        "a",
        "fluxa",
        (31000,),
        (80,),
    )


def test_a_tiered_component_counts_with_the_values_of_the_tier() -> None:
    tiered = component(tiered=True, cpubasic=0.1, rambasic=50, hddbasic=2, cpusuper=0)
    spec = {"version": 4, "name": "a", "compose": [tiered]}
    (basic,) = parts_of(spec, "cumulus") or ()
    (super_,) = parts_of(spec, "nimbus") or ()
    (plain,) = parts_of(spec) or ()
    assert (basic.cpu, basic.ram_mb, basic.hdd_gb) == (0.1, 50, 2)
    assert (super_.cpu, plain.cpu) == (0.5, 0.5)


def test_an_unopened_specification_has_no_parts() -> None:
    assert parts_of({"version": 8, "name": "a", "compose": [], "enterprise": "x"}) is None


@given(TEXTS, TEXTS, TEXTS)
def test_the_order_of_the_environment(own: list[str], secrets: list[str], more: list[str]) -> None:
    ordinary = [text for text in own if not text.startswith("F_S_ENV=")]
    hidden = [text for text in secrets if not text.startswith("F_S_ENV=")]
    found = environment(
        [*ordinary, "F_S_ENV=http://x"], app="a", own_ip=None, secrets=hidden, fetched=Fetched(more)
    )
    assert list(found) == [
        *ordinary,
        *hidden,
        *[text for text in more if text != "--privileged"],
        "FLUX_APP_NAME=a",
    ]


@given(TEXTS, TEXTS)
def test_no_command_asks_for_privileges(own: list[str], more: list[str]) -> None:
    words = command([*own, "--privileged", "F_S_CMD=u"], Fetched([*more, "--privileged"]))
    assert "--privileged" not in words


@pytest.mark.parametrize("answer", [None, {}, "x", [1], ["x"] * 200, ["x" * 5_000_001]])
def test_a_storage_that_answers_otherwise_ends_the_install(answer: object) -> None:
    with pytest.raises(PlanError):
        environment(["F_S_ENV=u"], app="a", own_ip=None, fetched=Fetched(answer))
    with pytest.raises(PlanError):
        command(["F_S_CMD=u"], None)


@pytest.mark.parametrize("clear", ["{}", "x", "[1]", '"a"', ""])
def test_unreadable_secrets_are_refused_without_being_told(clear: str) -> None:
    with pytest.raises(PlanError) as caught:
        open_secrets(clear or SECRET)
    assert SECRET not in str(caught.value)


def test_printed_values_hide_secrets() -> None:
    (part,) = parts_of({"version": 8, "name": "a", "compose": [component(secrets=SECRET)]}) or ()
    made = options(part, environment=(SECRET,))
    assert "hunter2" not in repr(part)
    assert "hunter2" not in repr(made)


def test_ownership_is_a_label_on_top() -> None:
    (part,) = parts_of({"version": 8, "name": "a", "compose": [component()]}) or ()
    owned, plain = docker_body(options(part)), docker_body(options(part), owned=False)
    assert owned["Labels"] == {"trionode.app": "a", "trionode.component": "web_a"}
    assert "Labels" not in plain
    assert json.dumps(owned)
    assert owned["HostConfig"]["RestartPolicy"] == {"Name": "no"}


def test_a_full_network_gives_no_address() -> None:
    (part,) = parts_of({"version": 8, "name": "a", "compose": [component()]}) or ()
    full = NetworkState("172.23.1.0/30", "172.23.1.1", frozenset({"172.23.1.2"}))
    assert options(part, network=full).static_ip is None


def test_who_collects_logs() -> None:
    sender, logs = component(environmentParameters=["LOG=SEND"]), component(name="logs")
    logs["environmentParameters"] = ["LOG=COLLECT"]
    spec = {"version": 8, "name": "a", "compose": [sender, logs], "description": "networkWith:[b]"}
    linked = {"name": "b", "compose": [logs]}
    part, collecting = parts_of(spec) or ()
    assert collector_of(part, spec, lambda app: linked) == Collector("a", "logs")
    assert collector_of(collecting, spec, lambda app: linked) == Collector("a", "logs")
    alone = {**spec, "compose": [sender]}
    assert collector_of(part, alone, lambda app: linked) == Collector("b", "logs")
    assert collector_of(part, alone, lambda app: None) is None
    assert Collector("fluxcloud", "flux").container == "flux_fluxcloud"


def test_shipping_needs_to_say_who_ships() -> None:
    (part,) = parts_of({"version": 8, "name": "a", "compose": [component()]}) or ()
    assert plan_log(part, None, None) == LogFile()
    with pytest.raises(NotKnownYet):
        plan_log(part, "172.23.1.2", None)
    shipping = plan_log(part, "172.23.1.2", HostIdentity("tx0", "1.2.3.4:16127"))
    assert isinstance(shipping, LogShipping)
    assert shipping.config()["Config"]["gelf-address"] == "udp://172.23.1.2:514"
