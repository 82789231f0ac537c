"""The `trionode` command: global options, and a table of subcommands that are imported when used.

Importing this module must not import trio, quart, hypercorn, structlog or rich: commands that only
ask a running node have 250 ms. Every TrionodeError ends as one line on stderr (docs/exit-codes.md).
"""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from trionode import __version__
from trionode.cli import exitcodes
from trionode.cli.context import Invocation
from trionode.errors import TrionodeError

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("trionode.cli.run:command", "Run the node until it is told to stop."),
    "observe": ("trionode.cli.observe:command", "Follow the network without being a node."),
    "init": ("trionode.cli.init:command", "Write a configuration and make or import the node key."),
    "status": ("trionode.cli.status:command", "Show how a running node is doing."),
    "doctor": ("trionode.cli.doctor:command", "Look for what is wrong and say what to do."),
    "peers": ("trionode.cli.peers:command", "List the peers of a running node."),
    "apps": ("trionode.cli.apps:command", "List which app runs where, and what is registered."),
    "containers": ("trionode.cli.containers:command", "Show and command what runs on this node."),
    "install": ("trionode.cli.install:install", "Install an app on this node."),
    "remove": ("trionode.cli.install:remove", "Remove an app from this node."),
    "redeploy": ("trionode.cli.install:redeploy", "Make an app or a component anew."),
    "hashes": ("trionode.cli.hashes:command", "Say which paid messages are missing."),
    "verify": ("trionode.cli.verify:command", "Judge app messages in a file."),
    "explorer": ("trionode.cli.explorer:command", "Show how far the chain is read, or read it again."),
    "events": ("trionode.cli.events:command", "Show the news of a running node."),
    "explain": ("trionode.cli.explain:command", "Say why an app is or is not listed at an address."),
    "store": ("trionode.cli.store:command", "Check or move the node's database."),
    "config": ("trionode.cli.config_cmd:command", "Show and check settings."),
    "devnet": ("trionode.cli.devnet:command", "Start a local network of real nodes."),
    "sim": ("trionode.cli.sim:command", "Run a scenario on a simulated network."),
    "version": ("trionode.cli.version:command", "Say which version this is."),
}
"""Subcommand -> where its click command is, and its help line."""


class LazyGroup(click.Group):
    """A group that imports a subcommand only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module_name, _, attribute = COMMANDS[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module_name), attribute)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "`trionode --help` lists all commands"
            raise click.UsageError(f"there is no command {args[0]!r} - {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--config",
    "-c",
    metavar="FILE",
    help="Configuration file. Default: $TRIONODE_CONFIG, ./trionode.toml, ~/.trionode/trionode.toml.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Override one setting (may be repeated); see docs/config.md.",
)
@click.option("--verbose", "-v", count=True, help="Log everything; show tracebacks of errors.")
@click.version_option(__version__, "--version", prog_name="trionode", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, config: str | None, assignments: tuple[str, ...], verbose: int) -> None:
    """A node of the Flux network."""
    ctx.obj = Invocation(config=config, assignments=assignments, verbose=verbose)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Console script: run the command line and exit with a documented code."""
    sys.exit(call(args))


def call(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are told on stderr."""
    arguments = list(sys.argv[1:] if args is None else args)
    stdout = sys.stdout
    try:
        result: Any = cli.main(args=arguments, prog_name="trionode", standalone_mode=False)
    except click.UsageError as error:
        return _tell_usage(error)
    except click.ClickException as error:
        return _tell(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _tell("interrupted", exitcodes.INTERRUPTED)
    except SystemExit as end:
        # When the reader of our output (head, less) is gone, click puts a silent stdout in place
        # and ends with 1; but that is no error of ours.
        if end.code == 1 and sys.stdout is not stdout:
            return exitcodes.OK
        raise
    except Exception as error:  # noqa: BLE001 - the outermost frame: everything is told, nothing hidden
        return _tell_exception(error, verbose="-v" in arguments or "--verbose" in arguments)
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            return _tell("interrupted", exitcodes.INTERRUPTED)
        raise
    return result if isinstance(result, int) else exitcodes.OK


def _tell(line: str, code: int) -> int:
    click.echo(f"trionode: {' '.join(line.split())}", err=True)
    return code


def _tell_usage(error: click.UsageError) -> int:
    where = error.ctx.command_path if error.ctx is not None else "trionode"
    message = error.format_message().rstrip(".")
    text = message if " - " in message else f"{message} - see `{where} --help`"
    return _tell(text, error.exit_code)


def _tell_exception(error: Exception, *, verbose: bool) -> int:
    known = _made_for_people(error)
    if known is None:
        traceback.print_exception(error)
        return _tell(
            f"internal error: {type(error).__name__}: {error} - please report it with the traceback above",
            exitcodes.FAILURE,
        )
    if verbose:
        traceback.print_exception(error)
    return _tell(known.one_line(), exitcodes.exit_code_of(known))


def _made_for_people(error: BaseException) -> TrionodeError | None:
    """The TrionodeError in `error`, looking into groups; None when anything else is in there too."""
    if isinstance(error, TrionodeError):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [_made_for_people(inner) for inner in error.exceptions]
        if found and all(inner is not None for inner in found):
            return found[0]
    return None
