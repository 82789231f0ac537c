"""Signing in at a running node, for commands that change something (docs/api.md, Signing in).

Either a session that was opened elsewhere (`--zelidauth`), or a file with the private key of the operator's
Flux ID in WIF (`--key`), with which a session is opened for this one command.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import click

from trionode.cli.client import NodeApi
from trionode.errors import TrionodeError

Command = TypeVar("Command", bound=Callable[..., Any])


class SignInFailed(TrionodeError):
    """There is nothing to sign in with, or the node did not take it."""

    code = "sign-in"


def sign_in_options(command: Command) -> Command:
    """`--key` and `--zelidauth` of every command that needs the operator."""
    key = click.option(
        "--key",
        "key_file",
        metavar="FILE",
        envvar="TRIONODE_SIGN_IN_KEY",
        help="Private key (WIF) of the Flux ID to sign in with: the operator's, or with an app its owner's. "
        "[$TRIONODE_SIGN_IN_KEY]",
    )
    session = click.option(
        "--zelidauth",
        envvar="TRIONODE_ZELIDAUTH",
        help="A session opened before: zelid=...&loginPhrase=...&signature=... [$TRIONODE_ZELIDAUTH]",
    )
    return key(session(command))


def sign_in(api: NodeApi, key_file: str | None, zelidauth: str | None) -> str:
    """The header that signs a request. Raises SignInFailed, NodeUnreachable or NodeRefused."""
    if zelidauth:
        return zelidauth
    if not key_file:
        raise SignInFailed(
            "this is for the operator, and with an app for its owner",
            remedy="sign in with --key FILE (the private key of that Flux ID) or --zelidauth",
        )
    from trionode.wire.keys import NodeKey

    try:
        key = NodeKey.from_wif(Path(key_file).read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise SignInFailed(
            f"cannot use {key_file}: {error}", remedy="give a file that holds one private key in WIF"
        ) from error
    phrase = api.get("/id/emergencyphrase")
    session = {"zelid": key.address, "loginPhrase": phrase, "signature": key.sign(phrase)}
    api.post("/id/verifylogin", session)
    return urlencode(session)
