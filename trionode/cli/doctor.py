"""`trionode doctor`: everything a node needs is looked at, with the remedy for what is wrong (docs/cli.md).

Works while the node runs and while it is stopped. Every check says what it saw; nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trionode.cli import exitcodes
from trionode.cli.client import ANY_HOST, NodeApi, api_of, api_option
from trionode.cli.context import Invocation
from trionode.cli.render import plain, show_json

if TYPE_CHECKING:
    from trionode.cli.doctor_patient import Patient
    from trionode.cli.doctor_report import Finding

MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL", "skip": "-   "}
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skip": None}


@click.command()
@api_option
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
@click.pass_obj
def command(invocation: Invocation, api: str | None, as_json: bool) -> int:
    """Look for what is wrong with this node and say what to do about it.

    Checks configuration, data folder, store, ports, Docker, disk, daemons, key, address, clock, and the
    node itself if it runs. Exit code 1 when a check fails.
    """
    import trio

    from trionode.cli.doctor_report import failed_by
    from trionode.errors import ConfigError, StartupError

    node = api_of(api)
    try:
        findings = trio.run(_examine, invocation, node, Path.home())
    except (ConfigError, StartupError) as error:
        # without settings there is nothing to look at
        findings = [failed_by("configuration", error)]
    _show(findings, as_json=as_json)
    failed = any(finding.verdict.value == "fail" for finding in findings)
    return exitcodes.FAILURE if failed else exitcodes.OK


async def _examine(invocation: Invocation, node: NodeApi, home: Path) -> Sequence[Finding]:
    from trionode.chain.rpc import bench_rpc, daemon_rpc
    from trionode.cli import doctor_chain, doctor_docker, doctor_machine, doctor_node
    from trionode.cli.doctor_patient import Patient
    from trionode.cli.doctor_report import Check, Verdict, examine
    from trionode.cli.preflight import daemon_conf
    from trionode.config.tree import Settings

    loaded = invocation.load()
    settings: Settings = loaded.settings
    conf = daemon_conf(settings, invocation.env, home)
    checks = (
        Check("node", doctor_node.node),
        Check("peers", doctor_node.peers),
        Check("daemon", doctor_chain.daemon, late_remedy="see its debug.log"),
        Check("benchmark", doctor_chain.benchmark),
        Check("key", doctor_chain.key, within_s=30.0),
        Check("clock", doctor_chain.clock),
        Check("data folder", doctor_machine.data_folder),
        Check(
            "store",
            doctor_machine.store,
            within_s=doctor_machine.STORE_CHECK_S,
            late=Verdict.WARN,
            late_remedy="it is large: stop the node and run `trionode store check`",
        ),
        Check("ports", doctor_machine.ports),
        Check("Docker", doctor_docker.docker, within_s=30.0, late_remedy="see `systemctl status docker`"),
        Check("volumes", doctor_machine.volumes),
        Check("apps", doctor_docker.machine_room),
    )
    # as the node does: a daemon may tell those who ask apart by their address
    bind_host = settings.node.bind_host
    source_ip = None if bind_host in ANY_HOST else bind_host
    with (
        daemon_rpc(settings.chain, conf, source_ip=source_ip) as daemon,
        bench_rpc(settings.chain, source_ip=source_ip) as bench,
    ):
        patient = Patient(
            settings=settings,
            files=tuple(loaded.files),
            env=invocation.env,
            home=home,
            conf=conf,
            api=node,
            daemon=daemon,
            bench=bench,
        )
        first = _configuration(patient)
        await patient.look_for_node()
        return [*first, *await examine(patient, checks)]


def _configuration(patient: Patient) -> list[Finding]:
    """Settings and key: what every other check stands on."""
    from trionode.cli.doctor_report import ok, warn
    from trionode.cli.preflight import checked_key
    from trionode.config.keyfile import find_key
    from trionode.errors import StartupError

    files = ", ".join(patient.files)
    if files:
        found = [ok("configuration", files)]
    else:
        remedy = "write one with `trionode init`, or name it with --config"
        found = [warn("configuration", "no file: everything has its default", remedy)]
    try:
        key = find_key(patient.settings, patient.conf.node_key_wif, patient.conf.path)
        patient.key = checked_key(key)
    except StartupError as error:
        patient.key_problem = error
        return found
    if key.exposed:
        found.append(warn("key file", f"{key.where} can be read by other users", f"chmod 600 {key.where}"))
    return found


def _show(findings: Sequence[Finding], *, as_json: bool) -> None:
    counts = {verdict: sum(f.verdict.value == verdict for f in findings) for verdict in MARKS}
    if as_json:
        rows = [
            {
                "check": finding.name,
                "verdict": finding.verdict.value,
                "evidence": finding.evidence,
                "remedy": finding.remedy or None,
            }
            for finding in findings
        ]
        show_json({"healthy": not counts["fail"], "counts": counts, "checks": rows})
        return
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        verdict = finding.verdict.value
        mark = click.style(MARKS[verdict], fg=COLOURS[verdict], bold=verdict == "fail")
        click.echo(f"{mark}  {finding.name:<{width}}  {plain(finding.evidence)}")
        if finding.remedy:
            click.echo(f"{'':4}  {'':<{width}}  -> {plain(finding.remedy)}")
    click.echo()
    click.echo(f"{counts['fail']} failed, {counts['warn']} to look at, {counts['ok']} well")
