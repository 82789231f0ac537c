"""`trionode containers`: what runs on this node and why, and commands to it (containers-operating.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from trionode.cli.client import NodeRefused, api_of, api_option
from trionode.cli.render import line, plain, repeat, show_json, table
from trionode.cli.signin import sign_in, sign_in_options
from trionode.cli.streaming import stream_objects

ID_SHOWN = 12

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def command() -> None:
    """Containers of the apps on this node: states, logs, what would be done, commands.

    TARGET is an app, or `component_app` for one of its components.
    """


@command.command()
@click.argument("app", required=False)
@api_option
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
@click.option("--watch", is_flag=True, help="Show it again every 2 s.")
def ls(app: str | None, api: str | None, as_json: bool, watch: bool) -> None:
    """List installed apps with their containers."""
    node = api_of(api)

    def draw() -> None:
        found = node.get("/trionode/containers", {"appname": app})
        if as_json:
            show_json(found, compact=watch)
        else:
            _show(found, app)

    if watch:
        repeat(draw, clear=not as_json)
    draw()


def _show(found: dict[str, Any], wanted: str | None) -> None:
    engine, operation = found["engine"], found["operation"]
    line("engine", engine["version"] if engine["reachable"] else f"does not answer: {engine['problem']}")
    if operation is not None:
        line("working on", f"{operation['work']} of {operation['app']}")
    for name in found["held"]:
        until = found["heldUntil"].get(name)
        line("held", f"{name}{f' until {until}' if until else ''} (backup or restore)")
    if wanted and not found["apps"]:
        raise NodeRefused(
            f"{wanted} is not installed on this node", remedy="`trionode apps` lists what runs where"
        )
    rows = [
        (
            app["name"],
            part["identifier"],
            part["state"] or ("missing" if engine["reachable"] else "?"),
            part["status"],
            part["image"],
            " ".join(str(port) for port in part["ports"]),
            _note(part),
        )
        for app in found["apps"]
        for part in app["components"] or [_closed(app["name"])]
    ]
    click.echo()
    count = len(found["apps"])
    title = f"{count} {'app' if count == 1 else 'apps'} installed"
    table(("app", "component", "state", "status", "image", "ports", "note"), rows, title=title)
    if found["leftovers"]:
        click.echo()
        table(
            ("container", "state", "status", "image"),
            [(row["container"], row["state"], row["status"], row["image"]) for row in found["leftovers"]],
            title="containers of apps that are not installed",
        )


def _closed(app: str) -> dict[str, Any]:
    """An app whose specification cannot be opened here."""
    return {
        "identifier": app,
        "state": "?",
        "status": None,
        "image": None,
        "ports": [],
        "stoppedOnPurpose": False,
        "held": False,
        "crashes": None,
        "flags": "",
        "note": "its specification cannot be opened here",
    }


def _note(part: dict[str, Any]) -> str:
    words = [part["note"]] if part.get("note") else []
    if part["stoppedOnPurpose"]:
        words.append("stopped on purpose")
    if part["held"]:
        words.append("backup or restore")
    crashes = part["crashes"]
    if crashes is not None:
        times = "once" if crashes["count"] == 1 else f"{crashes['count']} times in a row"
        words.append(f"ended by itself {times}, started again from {crashes['startedAgainAt']}")
    if "g" in part["flags"] and part["state"] != "running":
        words.append("another node may be its primary")
    return "; ".join(words)


@command.command()
@click.argument("app", required=False)
@api_option
@click.option("--json", "as_json", is_flag=True, help="The actions as JSON.")
def plan(app: str | None, api: str | None, as_json: bool) -> None:
    """Say what the node would do to its apps, why and when, without doing it."""
    actions = api_of(api).get("/trionode/containerplan", {"appname": app})
    if as_json:
        show_json(actions)
        return
    if not actions:
        click.echo("nothing is to be done")
        return
    rows = [
        (
            action["action"].replace("_", " "),
            action["app"] or None,
            action["component"] or None,
            action["when"] or (None if action["block"] is None else f"block {action['block']}"),
            action["reason"],
        )
        for action in actions
    ]
    table(
        ("action", "app", "component", "when", "because"),
        rows,
        title=f"{len(actions)} {'action' if len(actions) == 1 else 'actions'}",
    )


@command.command()
@click.argument("target")
@click.option("--lines", "-n", type=click.IntRange(1, 10_000), default=100, help="At most so many. [100]")
@click.option("--follow", "-f", is_flag=True, help="Stay and show what follows.")
@click.option("--timestamps", "-t", is_flag=True, help="With the time of each line.")
@api_option
@sign_in_options
def logs(
    target: str,
    lines: int,
    follow: bool,
    timestamps: bool,
    api: str | None,
    key_file: str | None,
    zelidauth: str | None,
) -> None:
    """Show what a container wrote."""
    node = api_of(api)
    session = sign_in(node, key_file, zelidauth)
    query = {"appname": target, "lines": str(lines)}
    if not follow:
        if timestamps:
            found = node.get_whole("/apps/applogpolling", query, zelidauth=session)
            text = "\n".join(found["logs"])
        else:
            text = node.get("/apps/applog", query, zelidauth=session)
        if text:
            click.echo("\n".join(plain(row) for row in text.split("\n")))
        return
    for entry in stream_objects(node, "/trionode/applog", query, zelidauth=session):
        if "text" not in entry:
            data = entry.get("data")
            raise NodeRefused(str(data.get("message") if isinstance(data, dict) else data))
        text = f"{entry['at']} {entry['text']}" if timestamps else entry["text"]
        click.echo(plain(text), err=entry["stream"] == "stderr")


@command.command()
@click.argument("target")
@api_option
@sign_in_options
def inspect(target: str, api: str | None, key_file: str | None, zelidauth: str | None) -> None:
    """Show all the engine knows of a container, as JSON.

    Values of the environment and commands are shown to the owner of the app alone.
    """
    node = api_of(api)
    session = sign_in(node, key_file, zelidauth)
    show_json(node.get("/apps/appinspect", {"appname": target}, zelidauth=session))


def _tell(
    path: str, query: dict[str, str | None], api: str | None, key_file: str | None, zelidauth: str | None
) -> None:
    """Give a command and say how it ended."""
    node = api_of(api)
    session = sign_in(node, key_file, zelidauth)
    answer = node.get(path, query, zelidauth=session, timeout_s=None)
    click.echo(plain(answer["message"] if isinstance(answer, dict) else answer))


def _command(name: str, about: str) -> None:
    @command.command(name, help=about)
    @click.argument("target")
    @click.option("--everywhere", is_flag=True, help="On all nodes that run the app.")
    @api_option
    @sign_in_options
    def run(
        target: str, everywhere: bool, api: str | None, key_file: str | None, zelidauth: str | None
    ) -> None:
        query = {"appname": target, "global": "true" if everywhere else None}
        _tell(f"/apps/app{name}", query, api, key_file, zelidauth)


_command("start", "Start an app or a component; a stop on purpose is over.")
_command("stop", "Stop it on purpose: nothing but a start or restart brings it up again.")
_command("restart", "Stop and start it.")


@command.command()
@click.argument("app")
@click.option("--minutes", type=click.IntRange(1, 1440), default=60, help="For how long at most. [60]")
@click.option("--running", is_flag=True, help="Do not stop it.")
@api_option
@sign_in_options
def hold(
    app: str, minutes: int, running: bool, api: str | None, key_file: str | None, zelidauth: str | None
) -> None:
    """Stop an app and keep it back, to back its files up or restore them.

    Until `release`, or until the time is over, nothing starts, heals, redeploys or elects it, and the network
    is told that it runs.
    """
    query = {"appname": app, "minutes": str(minutes), "running": "true" if running else None}
    _tell("/trionode/apphold", query, api, key_file, zelidauth)


@command.command()
@click.argument("app")
@api_option
@sign_in_options
def release(app: str, api: str | None, key_file: str | None, zelidauth: str | None) -> None:
    """Let an app go that was held, and start it."""
    _tell("/trionode/apprelease", {"appname": app}, api, key_file, zelidauth)
