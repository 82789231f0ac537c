"""lifecycle.json, sections c and d: shared networks, names, networks, containers, mounts, crontab."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from runner import Context, Outcome, each, expect, fields, register

from trionode.config.tree import Settings
from trionode.lifecycle.names import bare, containers_of, true_flags
from trionode.plans.containerdata import Mount, parse_container_data
from trionode.plans.createoptions import create_options, docker_body, may_burst
from trionode.plans.crontab import MountJob
from trionode.plans.environment import Fetched, command, environment, open_secrets, storage_url
from trionode.plans.logs import (
    Collector,
    HostIdentity,
    collector_of,
    linked_collector,
    own_collector,
    plan_log,
)
from trionode.plans.networks import (
    CreateNetwork,
    NetworkState,
    ReuseNetwork,
    Subnet,
    app_of_address,
    is_already_connected,
    network_body,
    network_name,
    next_free_address,
    plan_network,
)
from trionode.plans.networkwith import (
    Connect,
    LinkPlan,
    OnFailure,
    linked_apps,
    named_links,
    plan_forward,
    plan_links,
    plan_reverse,
    refused_link,
)
from trionode.plans.parts import part_of
from trionode.plans.problem import PlanError

OWN_IP = "1.2.3.4"
APPS_DIR = "/flux/ZelApps"
IDENTITY = HostIdentity("aabb0", "1.2.3.4:16137")
SERVICE_IP = "169.254.43.43"

# ---- c: networkWith ----------------------------------------------------------------------------------


@register("lifecycle", "c_networkWith.parse")
def parse(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "description expected")
        expect("names", list(named_links(case["description"])), case["expected"])

    yield from each("c_networkWith.parse", section, check, ("description",))


@register("lifecycle", "c_networkWith.linked")
def linked(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "spec expected")
        expect("names", list(linked_apps(case["spec"])), case["expected"])

    yield from each("c_networkWith.linked", section, check)


@register("lifecycle", "c_networkWith.gate")
def gate(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "name spec installed expected")
        owners = {row["name"]: row.get("owner") for row in case["installed"]}
        found = refused_link(case["spec"], owners)
        ours = {"ok": True} if found is None else {"throws": found.why, "app": found.app}
        expect("answer", ours, case["expected"])

    yield from each("c_networkWith.gate", section, check)


@register("lifecycle", "c_networkWith.wiring")
def wiring(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "name connects", "call arg args installed containers failNetworks throws")
        plan = link_plan(case)
        tried, threw = carried_out(plan, case.get("failNetworks", ()))
        expect("connects", tried, case["connects"])
        expect("throws", threw and plan.on_failure is OnFailure.ABORT, case.get("throws", False))

    yield from each("c_networkWith.wiring", section, check)


def link_plan(case: Any) -> LinkPlan:
    """Cases without a `call` are told apart by their names."""
    call, name = case.get("call", ""), case["name"]
    containers = case.get("containers", {})
    if call == "connectComponentToLinkedApps" or name.startswith("forward"):
        given = case.get("args", ["fluxweb_me", {"name": "me", "description": "networkWith:[appA,appB]"}])
        return plan_forward(*given)
    if "installed" not in case:  # the rows could not be read
        return LinkPlan()
    if call == "reconnectLinkedApps" or name.startswith("reverse"):
        return plan_reverse(case.get("arg", "appA"), case["installed"], lambda app: containers.get(app, ()))
    return plan_links(case["installed"], lambda app: containers.get(app, ()))


def carried_out(plan: LinkPlan, failing: Any) -> tuple[list[list[str]], bool]:
    tried: list[Connect] = []
    rest, threw = plan.connects, False
    while rest:
        step, rest = rest[0], rest[1:]
        tried.append(step)
        if step.network in failing:
            threw = True
            left = plan.rest_after(step)
            rest = tuple(other for other in rest if other in left)
    return [[step.container, step.network] for step in tried], threw


@register("lifecycle", "c_networkWith.collector")
def collector(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "name spec specs expected", "specThrows")
        unread = case.get("specThrows", ())
        found = linked_collector(case["spec"], lambda app: None if app in unread else case["specs"].get(app))
        ours = found and {"linkedAppName": found.app, "collectorComponentName": found.component}
        expect("collector", ours, case["expected"])

    yield from each("c_networkWith.collector", section, check)


# ---- d: networks and crontab -------------------------------------------------------------------------


@register("lifecycle", "d_docker.networks")
def networks(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "app thirdOctet", "createOptions alreadyExists result created")
        app, octet = case["app"], case["thirdOctet"]
        known = {network_name(app): [Subnet(octet).cidr]} if case.get("alreadyExists") else {}
        plan = plan_network(app, known, random.Random(1), tries=256)
        if case.get("alreadyExists"):
            expect("plan", plan, ReuseNetwork(network_name(app)))
            expect("created", 0, case["created"])
            return
        assert isinstance(plan, CreateNetwork)
        expect("octet is tried", Subnet(octet) in plan.subnets, True)
        expect("body", network_body(plan.network, Subnet(octet)), case["createOptions"])

    yield from each("d_docker.networks", section, check, ("app",))


@register("lifecycle", "d_docker.connect")
def connect(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "name args inspectNetworks connectCalls throws", "connectError")
        container, network = case["args"]
        inspected = case["inspectNetworks"].get(container) or {}
        attached = network in (inspected.get("NetworkSettings") or {}).get("Networks", {})
        calls = [] if attached else [[network, {"Container": container}]]
        problem = case.get("connectError")
        fails = calls and problem is not None and not is_already_connected(problem)
        expect("calls", calls, case["connectCalls"])
        expect("throws", problem if fails else None, case["throws"])

    yield from each("d_docker.connect", section, check)


@register("lifecycle", "d_docker.byIp")
def by_ip(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "ip networks expected")
        pairs = [tuple(text.split(" ")) for text in case["networks"]]
        expect("app", app_of_address(case["ip"], pairs), case["expected"])

    yield from each("d_docker.byIp", section, check, ("ip",))


@register("lifecycle", "d_docker.cronCmds")
def cron_commands(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "command hasWait volumeFile mountPoint appIdWithComment appIdNoComment upgraded")
        job = MountJob(case["command"])
        expect("waits", job.waits, case["hasWait"])
        expect("file", job.volume_file, case["volumeFile"])
        expect("mount point", job.mount_point, case["mountPoint"])
        expect("container", job.container, case["appIdNoComment"])
        expect("comment", MountJob(job.command, "fluxweb_myapp").container, case["appIdWithComment"])
        expect("upgraded", job.upgraded().command, case["upgraded"])

    yield from each("d_docker.cronCmds", section, check, ("command",))


# ---- d: containers -----------------------------------------------------------------------------------


@register("lifecycle", "d_docker.mounts")
def mounts(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "containerData hasFlagFn substringG substringR", "mounts throws")
        expect("flags", sorted(true_flags(case["containerData"])), sorted(case["hasFlagFn"]))
        try:
            data = parse_container_data(case["containerData"])
        except PlanError:
            expect("throws", True, case.get("throws", False))
            return
        expect("throws", False, case.get("throws", False))
        theirs = [{**mount, "flags": sorted(mount["flags"])} for mount in case["mounts"]]
        ours = [
            mount_row(mount, data.flags if number == 0 else ()) for number, mount in enumerate(data.mounts)
        ]
        expect("mounts", ours, theirs)

    yield from each("d_docker.mounts", section, check, ("containerData",))


def mount_row(mount: Mount, flags: Any) -> dict[str, Any]:
    row = {
        "type": mount.kind.value,
        "subdir": mount.name,
        "containerPath": mount.target,
        "flags": sorted(flags),
        "isFile": mount.is_file,
    }
    return row if mount.component is None else {**row, "componentIndex": mount.component}


@register("lifecycle", "d_docker.create")
def create(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "name component appName isComponent fullSpec environment createOptions throws")
        given = fields(
            case["environment"],
            "",
            "networks containers inspect secrets storage linkedCollector backingFs quota "
            "storageFails identity noIdentity",
        )
        try:
            body = created(case, given)
        except PlanError:
            expect("throws", True, case["throws"])
            return
        expect("throws", False, case["throws"])
        expect("options", body, case["createOptions"])

    yield from each("d_docker.create", section, check)


def created(case: Any, given: Any) -> dict[str, Any]:
    spec, app = case["fullSpec"], case["appName"]
    part = part_of(case["component"], app, single=not case["isComponent"])
    identifiers = [f"{entry['name']}_{app}" for entry in spec.get("compose") or ()] or [part.identifier]
    if part.identifier not in identifiers:  # cases show only what they are about
        identifiers.append(part.identifier)
    network = network_state(app, given)
    target = collector_of(part, spec, lambda other: None)
    told = given.get("linkedCollector")
    if target is None and told and own_collector(spec) is None and "LOG=SEND" in "".join(part.environment):
        target = Collector(told["linkedAppName"], told["collectorComponentName"])
    if target is None:
        address = None
    elif target.container == part.container:
        address = next_free_address(network)
    else:
        address = address_of(target.container, given)
    has_quota = given.get("backingFs") == "xfs" and bool(given.get("quota"))
    secrets = case["component"].get("secrets")
    clear = open_secrets(given["secrets"][secrets]) if secrets else ()
    options = create_options(
        part,
        identifiers,
        environment=environment(
            part.environment,
            app=app,
            own_ip=OWN_IP,
            secrets=clear,
            fetched=fetched((*part.environment, *clear), "F_S_ENV=", given),
        ),
        command=command(part.commands, fetched(part.commands, "F_S_CMD=", given)),
        log=plan_log(part, address, IDENTITY),
        network=network,
        apps_dir=APPS_DIR,
        host_service_ip=SERVICE_IP,
        bursts=may_burst(spec.get("owner"), Settings().enterprise.owners, supported=True),
        disk_quota=has_quota,
    )
    return docker_body(options, owned=False)


def fetched(entries: Any, mark: str, given: Any) -> Fetched | None:
    url = storage_url(entries, mark)
    answer = given.get("storage", {}).get(url)
    if answer is None:
        return None
    if isinstance(answer, str) and answer.startswith("array of "):
        return Fetched(["x"] * int(answer.split()[2]))
    return Fetched(answer)


def network_state(app: str, given: Any) -> NetworkState | None:
    name = network_name(app)
    network = given.get("networks", {}).get(name)
    if network is None:
        return None
    taken = {row["IPv4Address"].split("/")[0] for row in network["Containers"].values()}
    listed = given.get("containers", [])
    for container in containers_of(app, listed):
        found = inspected(container, given).get(name) or {}
        address = (found.get("IPAMConfig") or {}).get("IPv4Address")
        if address:
            taken.add(address)
    config = network["IPAM"]["Config"][0]
    return NetworkState(config["Subnet"], config.get("Gateway", ""), frozenset(taken))


def inspected(container: str, given: Any) -> dict[str, Any]:
    listed = [bare(name) for name in given.get("containers", [])]
    every = given.get("inspect", {})
    keys = [f"id{listed.index(container)}"] if container in listed else []
    found = next((every[key] for key in (*keys, container, f"/{container}") if key in every), {})
    return dict((found.get("NetworkSettings") or {}).get("Networks") or {})


def address_of(container: str, given: Any) -> str | None:
    for row in inspected(container, given).values():
        return row.get("IPAddress") or (row.get("IPAMConfig") or {}).get("IPv4Address")
    return None
