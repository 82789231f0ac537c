"""`trionode verify FILE`: judge app messages without a node and without the network (registry.md §4-§6)."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trionode.cli import exitcodes
from trionode.cli.render import plain, show_json
from trionode.errors import TrionodeError

MARKS = {"passed": "+", "failed": "-", "unknown": "?"}


class NotReadable(TrionodeError):
    """There is nothing to judge in the file."""

    code = "verify"


@click.command()
@click.argument("file")
@click.option(
    "--height",
    type=click.IntRange(min=0),
    help="Judge by the rules of this block, where the file does not tell the block of the payment.",
)
@click.option("--json", "as_json", is_flag=True, help="Every verdict as JSON.")
def command(file: str, height: int | None, as_json: bool) -> int:
    """Judge the app messages in FILE (`-`: standard input): format, hash, signature, rules.

    FILE holds one message, a list of them, or an answer of /apps/permanentmessages or temporarymessages.
    Exit code 1: a message is refused.
    """
    from trionode.registry.judge import judge_document
    from trionode.wire.jsjson import parse

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        document = parse(text)
    except (OSError, ValueError, TrionodeError) as error:
        raise NotReadable(f"cannot read {file}: {error}", remedy="give a file of JSON") from error
    judgements = judge_document(document, height=height)
    if as_json:
        show_json([judgement.as_document() for judgement in judgements])
    else:
        for judgement in judgements:
            verdict = "accepted" if judgement.accepted else "REFUSED"
            at = "" if judgement.height is None else f", block {judgement.height}"
            name = judgement.name or "a message without a name"
            click.echo(plain(f"{name}: {verdict} ({judgement.hash[:12] or 'no hash'}{at})"))
            for step in judgement.verdicts:
                click.echo(plain(f"  {MARKS[step.outcome]} {step.step:<10} {step.said}"))
        refused = sum(not judgement.accepted for judgement in judgements)
        click.echo(f"{len(judgements)} messages, {refused} refused")
    return exitcodes.OK if all(judgement.accepted for judgement in judgements) else exitcodes.FAILURE
