"""Logs: one coloured line per event for people on a terminal, one JSON object per line otherwise.

Every logger is structlog over the standard library, so lines of the libraries below us take the
same way out. Importing this module costs about 150 ms: commands that only ask a running node must
not import it. Without `set_up_logs` (tests, simulator) nothing is formatted and only warnings show.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

from trionode.config.tree import LogSettings
from trionode.errors import StartupError

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
ROOT = "trionode"
_QUIET_LIBRARIES = ("hypercorn", "quart", "trio-websocket", "asyncio", "aiohttp", "pymongo", "urllib3")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one part of the node; `name` is a short dotted name such as "peers.dialer".

    Calls look like `log.info("peer added", peer=key, total=12)`: a constant text, then values.
    """
    full_name = name if name == ROOT or name.startswith(f"{ROOT}.") else f"{ROOT}.{name}"
    logger = structlog.wrap_logger(
        logging.getLogger(full_name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return cast("structlog.stdlib.BoundLogger", logger)


def _shorten_name(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """`trionode.peers` is written `peers`; names of libraries stay whole."""
    name = event.get("logger")
    if isinstance(name, str):
        event["logger"] = name.removeprefix(f"{ROOT}.")
    return event


def _formatter(kind: str, *, colours: bool) -> logging.Formatter:
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _shorten_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor]
    if kind == "json":
        last = [
            structlog.processors.dict_tracebacks,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    else:
        last = [
            structlog.dev.ConsoleRenderer(
                colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=34
            )
        ]
    # Our own events reach the formatter without level, name and time as well: one place adds them.
    return structlog.stdlib.ProcessorFormatter(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter()],
    )


def _file_handler(settings: LogSettings) -> logging.Handler:
    path = Path(settings.file).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return logging.handlers.RotatingFileHandler(
            path, maxBytes=settings.max_file_bytes, backupCount=settings.keep_files, encoding="utf-8"
        )
    except OSError as error:
        raise StartupError(
            f"cannot write the log file {path}: {error.strerror or error}",
            remedy="set log.file to a writable path, or to an empty text to log to stderr only",
        ) from error


class _Installed:
    """The handlers this module put on the root logger, so that a second set-up replaces them."""

    handlers: tuple[logging.Handler, ...] = ()


def set_up_logs(settings: LogSettings, *, stream: TextIO | None = None) -> None:
    """Send all logs to `stream` (default stderr) and, when set, to `log.file` rotated by size.

    `log.format` "auto" is "human" on a terminal and "json" elsewhere; the file is always JSON
    unless `log.format` is "human". Calling it again replaces what the first call installed, so no
    line is ever written twice. Raises StartupError when the file cannot be written.
    """
    out = stream if stream is not None else sys.stderr
    on_terminal = out.isatty()
    kind = settings.format if settings.format != "auto" else ("human" if on_terminal else "json")
    console = logging.StreamHandler(out)
    console.setFormatter(_formatter(kind, colours=on_terminal))
    handlers: list[logging.Handler] = [console]
    if settings.file:
        file_handler = _file_handler(settings)
        file_kind = "human" if settings.format == "human" else "json"
        file_handler.setFormatter(_formatter(file_kind, colours=False))
        handlers.append(file_handler)
    tear_down_logs()
    level = LEVELS[settings.level]
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    _Installed.handlers = tuple(handlers)
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level)
    for library in _QUIET_LIBRARIES:
        logging.getLogger(library).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)


def tear_down_logs() -> None:
    """Remove and close what `set_up_logs` installed; idempotent."""
    root = logging.getLogger()
    for handler in _Installed.handlers:
        root.removeHandler(handler)
        handler.close()
    if _Installed.handlers:
        logging.captureWarnings(False)
    _Installed.handlers = ()


@contextmanager
def log_context(**values: object) -> Iterator[None]:
    """Put `values` on every line logged inside the block by this task and the tasks it starts."""
    with structlog.contextvars.bound_contextvars(**values):
        yield
