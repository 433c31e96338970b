"""Event names and log lines: one line per event, `key=value` or JSON.

Never decides anything and never hides an error: it only writes what it is told.
"""

import json
import logging
import sys
from datetime import UTC, datetime

_LOGGER = logging.getLogger("dorabatch")


class _LineFormatter(logging.Formatter):
    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(
            timespec="milliseconds"
        )
        fields = getattr(record, "fields", {})
        if self._as_json:
            head = {"at": at, "level": record.levelname, "event": record.getMessage()}
            return json.dumps({**head, **fields}, default=str)
        tail = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
        line = f"{at} {record.levelname.lower()} {record.getMessage()} {tail}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text) if (" " in text or "\n" in text or not text) else text


def configure(*, level: str, as_json: bool) -> None:
    """Send the daemon's lines to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter(as_json))
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(level.upper())
    _LOGGER.propagate = False


def event(name: str, **fields: object) -> None:
    """Something happened that an admin may want to see."""
    _LOGGER.info(name, extra={"fields": fields})


def detail(name: str, **fields: object) -> None:
    """Something that matters only when looking for a fault."""
    _LOGGER.debug(name, extra={"fields": fields})


def warning(name: str, **fields: object) -> None:
    """Something that an admin should look at."""
    _LOGGER.warning(name, extra={"fields": fields})


def failure(name: str, error: BaseException, **fields: object) -> None:
    """A duty failed; the trace goes into the log, never to a user."""
    _LOGGER.error(name, extra={"fields": {**fields, "error": error}}, exc_info=error)
