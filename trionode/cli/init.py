"""`trionode init`: a commented configuration and a node key, ready for `trionode run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from trionode.cli.context import Invocation
from trionode.errors import ConfigError

ENGINE_SOCKET = "/var/run/docker.sock"
_SHOWN = (
    ("node", ("data_dir", "key_file", "api_port", "bind_host", "address", "operator_id", "kadena_address")),
    (
        "chain",
        (
            "daemon_conf",
            "daemon_host",
            "daemon_port",
            "daemon_user",
            "daemon_password",
            "bench_host",
            "bench_port",
        ),
    ),
    ("store", ("url",)),
    ("api", ("event_stream",)),
    ("log", ("level", "format", "file")),
    ("hosting", ("engine", "apps_dir", "blocked_ports", "blocked_repositories")),
)
"""Settings an operator may want to change; all others are in docs/config.md."""


@click.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="Default: ~/.trionode."
)
@click.option("--key", "wif", metavar="WIF", help="Import this key (visible in the process list).")
@click.option("--key-file", type=click.Path(path_type=Path), help="Import the key from this file.")
@click.option("--generate", is_flag=True, help="Make a new key.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="Take over flux.conf and userconfig.js: one of them, or a folder that holds them.",
)
@click.option("--force", is_flag=True, help="Replace configuration and key; the old ones are kept.")
@click.pass_obj
def command(
    invocation: Invocation,
    folder: Path | None,
    wif: str | None,
    key_file: Path | None,
    generate: bool,
    source: Path | None,
    force: bool,
) -> None:
    """Write DIR/trionode.toml and DIR/node.key (both readable by this user only).

    Without a key option, the key of --from is imported, else a key that is there is kept, else a new
    one is made.
    """
    from trionode.cli.takeover import TakenOver, take_over
    from trionode.config.keyfile import FoundKey

    if sum((wif is not None, key_file is not None, generate)) > 1:
        raise click.UsageError("--key, --key-file and --generate exclude each other - give one of them")
    place = (folder or Path("~/.trionode")).expanduser().absolute()
    config_file, key_target = place / "trionode.toml", place / "node.key"
    taken = take_over(source.expanduser()) if source else TakenOver({}, "", ())
    for line in taken.report:
        click.echo(line)

    chosen: FoundKey | None
    if wif is not None:
        chosen = FoundKey(wif.strip(), "--key")
    elif key_file is not None:
        chosen = FoundKey(_read_key(key_file), str(key_file))
    elif generate or (not taken.wif and not key_target.exists()):
        chosen = FoundKey(_new_wif(), "a new key")
    elif taken.wif:
        chosen = FoundKey(taken.wif, "the daemon's configuration")
    else:
        chosen = None

    from trionode.cli.preflight import checked_key

    key = checked_key(chosen or FoundKey(_read_key(key_target), str(key_target)))
    settings = {"node.data_dir": str(place), "node.key_file": str(key_target), **_engine(), **taken.settings}
    text = config_text(settings)
    _check(text, config_file)
    if not force:
        _refuse_existing(config_file)
        if chosen is not None:
            _refuse_existing(key_target)

    _write(config_file, text)
    if chosen is not None:
        _write(key_target, f"{key.wif}\n")
    click.echo(f"wrote {config_file}")
    click.echo(
        f"{'kept' if chosen is None else 'wrote'} {key_target}: {chosen.where if chosen else 'unchanged'}"
    )
    click.echo(f"address {key.address}, public key {key.public_key}")
    if chosen is not None and chosen.where == "a new key":
        click.echo(
            "the network accepts this node only when a node with that public key is registered on the chain"
        )
    click.echo(f"next: trionode --config {config_file} run")


def config_text(settings: Mapping[str, Any]) -> str:
    """A commented TOML text: `settings` as they are, the other common ones commented out."""
    return "\n".join(_config_lines(settings)) + "\n"


def _config_lines(settings: Mapping[str, Any]) -> Iterator[str]:
    from trionode.cli.config_cmd import toml_value
    from trionode.config.fields import all_fields

    fields = all_fields()
    yield "# Settings of trionode. Lines that begin with # show the default; docs/config.md has every"
    yield "# setting with its range. `trionode config check FILE` checks this file, and"
    yield "# `trionode config show --origin` tells where each value in force comes from."
    for section, names in _SHOWN:
        yield ""
        yield f"[{section}]"
        for name in names:
            field = fields[f"{section}.{name}"]
            yield f"# {field.meaning} ({field.accepts})"
            if field.key in settings:
                yield f"{name} = {toml_value(settings[field.key])}"
            else:
                yield f"# {name} = {toml_value(field.default)}"


def _engine() -> dict[str, Any]:
    """The container engine of this machine, if there is one where engines usually are."""
    return {"hosting.engine": "docker"} if Path(ENGINE_SOCKET).is_socket() else {}


def _check(text: str, path: Path) -> None:
    """The file about to be written must be one we would accept."""
    import tempfile

    from trionode.config.load import load

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        draft.touch(mode=0o600)
        draft.write_text(text, encoding="utf-8")
        load([draft])


def _new_wif() -> str:
    import random

    from trionode.wire.keys import NodeKey

    return NodeKey.generate(random.SystemRandom()).wif


def _read_key(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise ConfigError(
            f"cannot read the key file {path}: {error.strerror or error}", remedy="name a readable file"
        ) from error


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise ConfigError(
            f"{path} exists already",
            remedy="give another --dir, or --force to replace it (the old one is kept beside it)",
        )


def _write(path: Path, text: str) -> None:
    """Write a private file; one that is there is first moved aside, never destroyed."""
    from trionode.config.keyfile import write_private

    try:
        if path.exists():
            kept = _free_name(path)
            path.rename(kept)
            click.echo(f"kept the old {path.name} as {kept}")
        write_private(path, text)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror or error}", remedy="give a --dir this user may write to"
        ) from error


def _free_name(path: Path) -> Path:
    number = 1
    while (candidate := path.with_name(f"{path.name}.old{number}")).exists():
        number += 1
    return candidate
