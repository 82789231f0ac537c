"""Worker process that judges app messages (docs/spec/registry.md §12): `python -m` this module.

It reads requests from standard input and answers on standard output, both as a length (4 bytes,
big-endian) and that many bytes of pickle; only its parent, the node itself, is at the other end of the
pipes. It ends with its input.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import struct
import sys
from typing import IO, Any

from trionode.registry.batch import judge_groups

LENGTH = struct.Struct(">I")
NICENESS = 5
"""Whoever serves peers goes before whoever catches up."""


def read_frame(source: IO[bytes]) -> Any:
    """The next request, None at the end of the input."""
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    body = source.read(size)
    return pickle.loads(body) if len(body) == size else None


def frame(value: Any) -> bytes:
    """A value with its length in front."""
    body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def main() -> int:
    # An interrupt from the terminal is for the node, which then closes our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    gc.freeze()
    while True:
        request = read_frame(sys.stdin.buffer)
        if request is None:
            return 0
        rules, groups = request
        sys.stdout.buffer.write(frame(judge_groups(groups, rules)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
