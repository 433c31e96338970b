"""Follow an answer that says how far it is, in lines of JSON, until its result.

The progress is one line on standard error, on a terminal only, and is gone at the end.
Never sends anything and knows no request.
"""

import json
import os
from collections.abc import Callable, Iterable

from dorabatch.cmds.answers import Record
from dorabatch.errors import DaemonUnavailable


def follow(
    command: str, pieces: Iterable[bytes], shown: Callable[[Record], str]
) -> Record:
    """The record with the result; `shown` words those before it.

    Raises DaemonUnavailable when the answer ends without one.
    """
    rest = b""
    is_terminal = os.isatty(2)
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            record: Record = json.loads(line)
            if is_terminal:
                text = "" if "result" in record else f"{command}: {shown(record)}"
                os.write(2, f"\r\x1b[K{text}".encode())
            if "result" in record:
                return record
    raise DaemonUnavailable(
        f"{command}: the answer ended without a result; see the daemon's log"
    )
