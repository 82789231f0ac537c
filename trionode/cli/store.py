"""`trionode store`: look at a database, or move everything into another one (docs/storage.md)."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trionode.cli import exitcodes
from trionode.cli.context import Invocation
from trionode.cli.render import line, show_json, table
from trionode.errors import StoreError

if TYPE_CHECKING:
    from trionode.config.tree import StoreSettings
    from trionode.store.checkup import Checkup
    from trionode.store.copying import Compared, Side

_URL_HELP = (
    "A database is sqlite:PATH (the file of the event log, or the folder it is in) or mongodb://HOST:PORT."
)


@click.group()
def command() -> None:
    """Look at the node's database, or move it between SQLite and MongoDB."""


@command.command(epilog=_URL_HELP)
@click.argument("url", required=False)
@click.option("--prefix", help="Prefix of the database names (default: store.mongo_prefix).")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.pass_obj
def check(invocation: Invocation, url: str | None, prefix: str | None, as_json: bool) -> int:
    """Say what a database holds, what is wrong with it, and what `trionode run` will put right.

    Nothing is changed. Without URL: the database of the configuration. Exit code 1 when something needs a
    person.
    """
    settings = _settings(invocation, url, prefix)

    import trio

    report = trio.run(_check, settings, _folder(invocation, url))
    if as_json:
        import msgspec

        show_json(msgspec.to_builtins(report))
    else:
        _show_report(report)
    return exitcodes.FAILURE if report.problems else exitcodes.OK


@command.command(name="copy", epilog=_URL_HELP)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--from-prefix", help="Prefix of the database names in FROM (default: store.mongo_prefix).")
@click.option("--to-prefix", help="Prefix of the database names in TO (default: store.mongo_prefix).")
@click.option("--json", "as_json", is_flag=True, help="The final comparison as JSON; no progress.")
@click.pass_obj
def copy_all(
    invocation: Invocation,
    source: str,
    target: str,
    from_prefix: str | None,
    to_prefix: str | None,
    as_json: bool,
) -> int:
    """Copy everything from one database to another, empty one, and compare the two.

    Stop the node first. A copy that was cut off is continued by the same command. Exit code 1 when the
    two differ in the end.
    """
    one = _settings(invocation, source, from_prefix)
    other = _settings(invocation, target, to_prefix)
    if (one.url, one.mongo_prefix) == (other.url, other.mongo_prefix):
        raise StoreError("FROM and TO are the same database", remedy="name another file or another prefix")

    import trio

    show = _no_progress if as_json else _Progress()
    compared = trio.run(_copy, one, other, show)
    equal = all(kind.is_equal for kind in compared)
    if as_json:
        import msgspec

        show_json({"equal": equal, "kinds": msgspec.to_builtins(compared)})
    else:
        _show_comparison(compared, equal)
    return exitcodes.OK if equal else exitcodes.FAILURE


@command.command(epilog=_URL_HELP)
@click.argument("url", required=False)
@click.option("--prefix", help="Prefix of the database names (default: store.mongo_prefix).")
@click.pass_obj
def keep(invocation: Invocation, url: str | None, prefix: str | None) -> int:
    """Accept a database with an unfinished copy as it is, so that `trionode run` starts on it.

    What the copy did not bring comes from peers and from the chain, but for the apps installed on the node:
    those that are missing are not known to it. Without URL: the database of the configuration.
    """
    settings = _settings(invocation, url, prefix)

    import trio

    trio.run(_keep, settings, _folder(invocation, url))
    click.echo("kept as it is: `trionode run` starts on it, and no copy continues there")
    return exitcodes.OK


# Choosing the databases


def _settings(invocation: Invocation, url: str | None, prefix: str | None) -> StoreSettings:
    import msgspec

    from trionode.config.load import load
    from trionode.store.open import is_mongo

    configured = invocation.load().settings.store
    wanted: dict[str, object] = {}
    if url is not None:
        wanted["store.url"] = url if is_mongo(url) else _file(url)
    if prefix is not None:
        wanted["store.mongo_prefix"] = prefix
    # Loading them tells a wrong prefix in the words of every other setting.
    named = load(overrides=wanted).settings.store
    changes: dict[str, Any] = {key.partition(".")[2]: None for key in wanted}
    return msgspec.structs.replace(configured, **{key: getattr(named, key) for key in changes})


def _file(url: str) -> str:
    """`sqlite:PATH` with the whole path; a folder stands for the file in it."""
    from trionode.store.open import FILE_NAME

    kind, colon, text = url.partition(":")
    if kind != "sqlite" or not colon or not text:
        raise StoreError(f"{_shown(url)} is no database", remedy=_URL_HELP[0].lower() + _URL_HELP[1:-1])
    path = Path(text).expanduser().absolute()
    return f"sqlite:{path / FILE_NAME if path.is_dir() else path}"


def _folder(invocation: Invocation, url: str | None) -> Path:
    from trionode.config.paths import data_dir

    return Path.cwd() if url is not None else data_dir(invocation.load().settings)


def _shown(url: str) -> str:
    """A database as people may see it: without a password."""
    if "://" not in url:
        return url
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def _must_exist(settings: StoreSettings, folder: Path) -> Path:
    """The file of an SQLite database; opening would make an empty one in its place."""
    from trionode.store.open import FILE_NAME, REGISTRY_FILE_NAME

    path = folder / (settings.url.removeprefix("sqlite:") or FILE_NAME)
    if not path.exists() and not path.with_name(REGISTRY_FILE_NAME).exists():
        raise StoreError(f"there is no database at {path}", remedy="name the file, or the folder it is in")
    return path


@asynccontextmanager
async def _side(settings: StoreSettings, folder: Path) -> AsyncIterator[Side]:
    import msgspec

    from trionode.store.copying import Side
    from trionode.store.open import open_stores

    # Somebody looks on: a full disk is told at once.
    settings = msgspec.structs.replace(settings, sqlite_retry_s=0.0)
    async with open_stores(settings, folder) as stores:
        yield Side(_name(settings, folder), stores.events, stores.registry, stores.local)


def _name(settings: StoreSettings, folder: Path) -> str:
    name = _shown(settings.url) or str(folder)
    return f"{name} (prefix {settings.mongo_prefix})" if settings.mongo_prefix and "://" in name else name


# Doing it


async def _check(settings: StoreSettings, folder: Path) -> Checkup:
    from trionode.store.checkup_rows import check_rows
    from trionode.store.copying import Side
    from trionode.store.open import is_mongo, open_files_to_read

    if is_mongo(settings.url):
        from trionode.store.mongo.checkup import check_mongo

        return await check_mongo(settings)
    path = _must_exist(settings, folder)
    async with open_files_to_read(path) as found:
        stores = found.stores
        side = Side(_name(settings, folder), stores.events, stores.registry, stores.local)
        return await check_rows(side, missing=found.missing, in_use=found.in_use)


async def _copy(one: StoreSettings, other: StoreSettings, show: Any) -> Sequence[Compared]:
    from trionode.runtime.clock import SystemClock
    from trionode.store.copying import copy
    from trionode.store.open import is_mongo

    if not is_mongo(one.url):
        _must_exist(one, Path.cwd())
    if is_mongo(other.url):
        from trionode.store.mongo.checkup import refuse_filled_mongo

        await refuse_filled_mongo(other)
    async with _side(one, Path.cwd()) as source, _side(other, Path.cwd()) as target:
        return await copy(source, target, now_ms=SystemClock().now_ms(), progress=show)


async def _keep(settings: StoreSettings, folder: Path) -> None:
    from trionode.store.copymark import KEPT, MARKER, is_unfinished
    from trionode.store.open import is_mongo

    if not is_mongo(settings.url):
        _must_exist(settings, folder)
    async with _side(settings, folder) as side:
        if not is_unfinished(await side.log.get_meta(MARKER)):
            raise StoreError(
                f"{side.name} is no unfinished copy", remedy="nothing to do: the node starts on it"
            )
        await side.log.put_meta(MARKER, KEPT)


# Showing it


def _show_report(report: Checkup) -> None:
    line("database", report.name)
    for label, text in report.facts.items():
        line(label, text)
    click.echo()
    table(("holds", "documents"), report.holds)
    click.echo()
    if not report.findings:
        click.echo("nothing is wrong")
        return
    words = {"note": "note", "repair": "repair", "problem": "PROBLEM"}
    table(
        ("", "where", "found", "what", "then"),
        [
            (words[found.severity], found.where, found.count, _with_examples(found), found.then)
            for found in report.findings
        ],
    )
    click.echo()
    repairs = sum(found.severity == "repair" for found in report.findings)
    click.echo(f"{report.problems} need a person, {repairs} are put right by `trionode run`")


def _with_examples(found: Any) -> str:
    return f"{found.what} ({', '.join(found.examples)})" if found.examples else found.what


def _show_comparison(compared: Sequence[Compared], equal: bool) -> None:
    table(
        ("kind", "from", "to", "checksum"),
        [
            (
                kind.kind,
                kind.source,
                kind.target,
                kind.source_sum[:16]
                if kind.is_equal
                else f"{kind.source_sum[:16]} != {kind.target_sum[:16]}",
            )
            for kind in compared
        ],
    )
    if equal:
        click.echo("both hold the same")
    else:
        click.echo("the two differ: empty the target and copy again, with the node stopped", err=True)


def _no_progress(kind: str, done: int, total: int) -> None:
    pass


class _Progress:
    """One line per kind; on a terminal it counts, at most ten times a second."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._next_s = 0.0

    def __call__(self, kind: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        if done >= total:
            said = f"{kind:<15} {total}"
            click.echo(said.ljust(40) if self._is_terminal else said)
        elif self._is_terminal and now_s >= self._next_s:
            self._next_s = now_s + 0.1
            click.echo(f"{kind:<15} {done} of {total} ({100 * done // total} %)\r", nl=False)
