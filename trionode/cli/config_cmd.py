"""`trionode config`: what the settings are, where each came from, and whether a file is right."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from trionode.cli import exitcodes
from trionode.cli.context import Invocation

SECRETS = frozenset({"chain.daemon_password", "chain.bench_password"})
HIDDEN = "***"


def _without_secret(key: str, value: Any) -> Any:
    if key in SECRETS and value:
        return HIDDEN
    if key == "store.url" and "@" in value:
        # User and password stand between scheme and host.
        scheme, _, rest = value.partition("://")
        return f"{scheme}://{HIDDEN}@{rest.rpartition('@')[2]}"
    return value


@click.group(name="config")
def command() -> None:
    """Show and check settings."""


@command.command(name="show")
@click.argument("keys", nargs=-1)
@click.option("--origin", is_flag=True, help="Say where each value came from.")
@click.option("--changed", is_flag=True, help="Only settings that are not at their default.")
@click.option("--secrets", is_flag=True, help="Show passwords.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def show(
    invocation: Invocation, keys: tuple[str, ...], origin: bool, changed: bool, secrets: bool, as_json: bool
) -> None:
    """Show the settings in force: all, or the sections and KEYS named."""
    import msgspec

    from trionode.config.check import value_of
    from trionode.config.fields import all_fields

    loaded = invocation.load()
    chosen = [key for key in all_fields() if not keys or _is_wanted(key, keys)]
    _refuse_unknown(keys, chosen)
    if changed:
        chosen = [key for key in chosen if loaded.origins[key] != "default"]
    values: dict[str, Any] = {}
    for key in chosen:
        value = msgspec.to_builtins(value_of(loaded.settings, key))
        values[key] = value if secrets else _without_secret(key, value)
    if as_json:
        rows: dict[str, Any] = {
            key: {"value": value, "origin": loaded.origins[key]} if origin else value
            for key, value in values.items()
        }
        click.echo(json.dumps(rows, indent=1))
        return
    section = ""
    for key, value in values.items():
        this, _, name = key.partition(".")
        if this != section:
            click.echo(f"{'' if not section else chr(10)}[{this}]")
            section = this
        line = f"{name} = {toml_value(value)}"
        click.echo(f"{line:<60} # {loaded.origins[key]}" if origin else line)


@command.command(name="check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def check(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Check FILE alone, without environment and flags; name every problem. Exit 3 if there is one.

    A setting that has no effect is told, but is no problem.
    """
    from trionode.config.load import Note, Problem, RefusedSettings, load

    problems: tuple[Problem, ...] = ()
    notes: tuple[Note, ...] = ()
    given = 0
    try:
        loaded = load([file])
        notes = loaded.notes
        given = sum(origin != "default" for origin in loaded.origins.values())
    except RefusedSettings as error:
        problems = error.problems
    if as_json:
        click.echo(
            json.dumps(
                {
                    "file": str(file),
                    "problems": [
                        {"where": p.where, "key": p.key, "message": p.message, "remedy": p.remedy}
                        for p in problems
                    ],
                    "withoutEffect": [{"where": n.where, "key": n.key, "why": n.why} for n in notes],
                }
            )
        )
    else:
        for problem in problems:
            click.echo(f"trionode: {problem.one_line()}", err=True)
        for note in notes:
            click.echo(f"trionode: {note.one_line()}", err=True)
        if not problems:
            click.echo(f"{file}: {given} settings, all accepted")
    if problems:
        ctx.exit(exitcodes.CONFIG)


def _is_wanted(key: str, wanted: Iterable[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in wanted)


def _refuse_unknown(wanted: Iterable[str], chosen: list[str]) -> None:
    from trionode.config.fields import suggest
    from trionode.errors import ConfigError

    for name in wanted:
        if not any(_is_wanted(key, [name]) for key in chosen):
            near = suggest(name)
            raise ConfigError(
                f"there is no setting or section {name}",
                remedy=f"did you mean {near}?" if near else "`trionode config show` lists all",
            )


def toml_value(value: Any) -> str:
    """A value in TOML's spelling (tables inline)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML basic string, except that TOML wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml_value(item)}" for name, item in value.items()) + " }"
    return str(value)
