"""Installing and install-error records with their signed copies (docs/spec/events.md §4.5, §4.6, §7)."""

from __future__ import annotations

from trionode.appstate.changes import DeleteCopy, DeleteInstallError, PutCopy, PutInstallError
from trionode.appstate.documents import InstallErrorRow, Signed, SignedCopy
from trionode.appstate.draft import Draft
from trionode.appstate.messages import InstallError, Installing
from trionode.wire.envelope import Envelope


def put_error(draft: Draft, message: InstallError, expire_at_ms: int) -> bool:
    """Write the error row if it is strictly newer; returns whether it was."""
    row = draft.state.error_row(message.name, message.hash, message.ip)
    if row is not None and row.broadcasted_at_ms >= message.at_ms:
        return False
    draft.do(
        PutInstallError(
            InstallErrorRow(
                message.name, message.hash, message.ip, message.error, message.at_ms, expire_at_ms
            )
        )
    )
    return True


def put_copy(
    draft: Draft, message: Installing | InstallError, envelope: Envelope, received_at_ms: int | None
) -> bool:
    """Keep the signed form, unguarded (W34); False when it is past its window."""
    is_error = isinstance(message, InstallError)
    window_ms = draft.windows.install_error_ms if is_error else draft.windows.installing_ms
    if message.at_ms + window_ms < draft.now_ms:
        return False
    draft.do(
        PutCopy(
            SignedCopy(
                "error" if is_error else "installing",
                message.ip,
                message.name,
                message.hash if isinstance(message, InstallError) else "",
                message.at_ms,
                message.at_ms + window_ms,
                received_at_ms,
                envelope.data_text,
                Signed.of(envelope),
            )
        )
    )
    return True


def forget_errors(draft: Draft, name: str) -> None:
    """Drop error rows and signed copies of an app: it has a newer specification or expired (§7)."""
    for row in draft.state.install_errors():
        if row.name == name:
            draft.do(DeleteInstallError(row.ip, row.name, row.hash))
    for key in draft.state.copy_keys():
        if key[0] == "error" and key[2] == name:
            draft.do(DeleteCopy(key))
