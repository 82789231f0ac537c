"""Logs: one coloured line per event for people on a terminal, one JSON object per line otherwise.

Every logger is structlog over the standard library, so lines of the libraries below us take the
same way out. Importing this module costs about 150 ms: commands that only ask a running node must
not import it. Without `set_up_logs` (tests, simulator) nothing is formatted and only warnings show.
"""

from __future__ import annotations

import logging
import logging.handlers
import re
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
_MAX_TEXT = 1000
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
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


def _leading(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """What every line has comes first, so that raw JSON can be read too."""
    first = ("timestamp", "level", "logger", "message")
    return {name: event[name] for name in (*first, *(name for name in event if name not in first))}


def _tame(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Texts from outside must not forge lines, move the cursor or fill the disk."""
    for name, value in event.items():
        if isinstance(value, str) and not name.startswith("_"):
            if name == "exception":
                event[name] = _CONTROLS.sub(lambda found: repr(found[0])[1:-1], value)
                continue
            if len(value) > _MAX_TEXT:
                value = f"{value[:_MAX_TEXT]}... ({len(value)} characters)"
            event[name] = value if value.isprintable() else repr(value)
    return event


def _formatter(kind: str, *, colours: bool, local_time: bool) -> logging.Formatter:
    time_stamp = (
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        if local_time
        else structlog.processors.TimeStamper(fmt="iso", utc=True)
    )
    # Locals of the frames stay out of the traceback: they may hold keys and passwords.
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _shorten_name,
        time_stamp,
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
    ]
    last: list[Processor]
    if kind == "json":
        last = [structlog.processors.EventRenamer("message"), _leading, structlog.processors.JSONRenderer()]
    else:
        last = [
            _tame,
            structlog.dev.ConsoleRenderer(
                colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=34
            ),
        ]
    # Our own events reach the formatter without level, name and time as well: one place adds them.
    return structlog.stdlib.ProcessorFormatter(
        processors=[*shared, *last],
        foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter()],
    )


class _LogFile(logging.handlers.RotatingFileHandler):
    """A file whose disk may be full for a while: that is told once, and once more when it is over.

    Without it every line would become a traceback on stderr, which often ends on the same disk.
    """

    _is_lost = False
    _has_failed = False

    def emit(self, record: logging.LogRecord) -> None:
        self._has_failed = False
        super().emit(record)
        if self._is_lost and not self._has_failed:
            self._is_lost = False
            get_logger("logs").warning("the log file is written again; lines are missing")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name in the standard library
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._has_failed = True
        if not self._is_lost:
            self._is_lost = True
            problem = error.strerror or str(error)
            get_logger("logs").error(
                "the log file cannot be written", problem=problem, file=self.baseFilename
            )
            self._has_failed = True  # the line just told came here too


def _file_handler(settings: LogSettings) -> logging.Handler:
    path = Path(settings.file).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _LogFile(
            path,
            maxBytes=settings.max_file_bytes,
            backupCount=settings.keep_files,
            encoding="utf-8",
            errors="backslashreplace",
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
    console.setFormatter(_formatter(kind, colours=on_terminal, local_time=on_terminal))
    handlers: list[logging.Handler] = [console]
    if settings.file:
        file_handler = _file_handler(settings)
        file_kind = "human" if settings.format == "human" else "json"
        file_handler.setFormatter(_formatter(file_kind, colours=False, local_time=False))
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
        for name in (ROOT, *_QUIET_LIBRARIES):
            logging.getLogger(name).setLevel(logging.NOTSET)
    _Installed.handlers = ()


@contextmanager
def log_context(**values: object) -> Iterator[None]:
    """Put `values` on every line logged inside the block by this task and the tasks it starts."""
    with structlog.contextvars.bound_contextvars(**values):
        yield
