"""`trionode install`, `remove`, `redeploy`: apps of this node by hand (docs/containers-operating.md)."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from trionode.cli.client import NodeApi, api_of, api_option
from trionode.cli.progressbars import show_progress
from trionode.cli.render import plain, show_json
from trionode.cli.signin import sign_in, sign_in_options
from trionode.cli.streaming import last_answer, stream_objects
from trionode.errors import TrionodeError


class NotConfirmed(TrionodeError):
    """Data would be lost and nobody said yes."""

    code = "not_confirmed"


json_option = click.option("--json", "as_json", is_flag=True, help="Progress as JSON, one object a line.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
everywhere_option = click.option("--everywhere", is_flag=True, help="On all nodes that run the app.")


@click.command()
@click.argument("app")
@click.option("--test", is_flag=True, help="Install it in a small form and remove it again.")
@json_option
@api_option
@sign_in_options
def install(
    app: str, test: bool, as_json: bool, api: str | None, key_file: str | None, zelidauth: str | None
) -> None:
    """Install APP on this node: the name of a registered app, or the hash of a message.

    Names and paid messages are for the operator and the team; a message that waits for its payment may be
    tried by everybody, and ends after a while.
    """
    node = api_of(api)
    session = sign_in(node, key_file, zelidauth)
    path = "/apps/testappinstall" if test else "/apps/installapplocally"
    _run(node, path, {"appname": app}, session, as_json=as_json)


@click.command()
@click.argument("app")
@click.option("--force", is_flag=True, help="Even while another operation runs; steps that fail are skipped.")
@everywhere_option
@yes_option
@json_option
@api_option
@sign_in_options
def remove(
    app: str,
    force: bool,
    everywhere: bool,
    yes: bool,
    as_json: bool,
    api: str | None,
    key_file: str | None,
    zelidauth: str | None,
) -> None:
    """Remove APP from this node: containers, images, data."""
    if force and everywhere:
        raise click.UsageError("other nodes are not told to force it: leave out --force or --everywhere")
    _confirm(f"Remove {app} with all its data{' from every node' if everywhere else ''}?", yes)
    node = api_of(api)
    session = sign_in(node, key_file, zelidauth)
    query = {"appname": app, "force": "true" if force else None}
    _run(node, "/apps/appremove", query, session, as_json=as_json, everywhere=everywhere)


@click.command()
@click.argument("target")
@click.option("--hard", is_flag=True, help="Its data goes too.")
@everywhere_option
@yes_option
@json_option
@api_option
@sign_in_options
def redeploy(
    target: str,
    hard: bool,
    everywhere: bool,
    yes: bool,
    as_json: bool,
    api: str | None,
    key_file: str | None,
    zelidauth: str | None,
) -> None:
    """Make an app anew by the specification in force, or one `component_app` by the installed one."""
    if hard:
        _confirm(f"Make {target} anew and lose all its data{' on every node' if everywhere else ''}?", yes)
    node = api_of(api)
    session = sign_in(node, key_file, zelidauth)
    component, separator, app = target.partition("_")
    query: dict[str, str | None] = {"force": "true" if hard else "false"}
    if separator and component:
        if everywhere:
            raise click.UsageError("--everywhere is for whole apps")
        query |= {"appname": app, "component": component}
        _run(node, "/apps/redeploycomponent", query, session, as_json=as_json)
        return
    query["appname"] = target
    _run(node, "/apps/redeploy", query, session, as_json=as_json, everywhere=everywhere)


def _run(
    node: NodeApi,
    path: str,
    query: Mapping[str, str | None],
    session: str,
    *,
    as_json: bool,
    everywhere: bool = False,
) -> None:
    given = {**query, "global": "true"} if everywhere else query
    try:
        said = show_progress(
            last_answer(stream_objects(node, path, given, zelidauth=session)), as_json=as_json
        )
    except KeyboardInterrupt:
        click.echo("the node goes on with what it began: see `trionode containers ls`", err=True)
        raise
    if as_json:
        show_json({"status": "success", "message": said}, compact=True)
    else:
        click.echo(plain(said))


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotConfirmed("this deletes data", remedy="say so with --yes")
    click.confirm(plain(question), abort=True)
