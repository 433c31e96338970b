"""Read the JSON answers of the daemon.

Loaded only by those who need JSON: errors, questions before cancelling, nodes and
kinds. Never sends anything.
"""

import json
from typing import Any

from dorabatch.cmds.client import Answer
from dorabatch.errors import DaemonUnavailable

Record = dict[str, Any]


def read_error(status: int, text: str) -> tuple[str, str, int]:
    """Message, code and exit status of an error answer."""
    try:
        error = json.loads(text)["error"]
        return str(error["message"]), str(error["code"]), int(error["exit_status"])
    except (ValueError, KeyError, TypeError):
        said = " ".join(text.split())[:200] or "nothing"
        message = (
            f"the daemon failed (HTTP {status}) and said: {said};"
            " its log says more, ask the administrator"
        )
        return message, "DaemonFailed", 1


def read_record(answer: Answer) -> Record:
    """The JSON object in an answer."""
    record = _read_json(answer)
    if not isinstance(record, dict):
        raise DaemonUnavailable(f"the daemon answered {record!r}, not an object")
    return record


def _read_json(answer: Answer) -> object:
    text = answer.read()
    try:
        found: object = json.loads(text)
    except ValueError as error:
        raise DaemonUnavailable(
            f"the daemon's answer is not JSON: {text[:60]!r}; do the commands and"
            " dorad come from the same release?"
        ) from error
    return found
