"""Print a log as it grows and wait for the end of a workload, through restarts.

Remembers how many bytes came, so that a reader sees each byte once. Never decides
when a workload has ended: the daemon says so.
"""

from dorabatch.cmds.answers import Record, read_record
from dorabatch.cmds.client import Answer, AnsweredError, DaemonAway, Query, quote, send
from dorabatch.cmds.patience import FOLLOW_SECONDS_MAX, Patience
from dorabatch.cmds.terminal import note, warn, write_out

WAIT_SECONDS = 50  # below the longest silence that the client accepts
EXIT_NO_CODE = 1
GOES_ON = "it goes on meanwhile"


class LogReader:
    """One log, and how far it has been read."""

    def __init__(self, command: str, ref: str, query: Query) -> None:
        self._command = command
        self._path = f"/v1/workloads/{quote(ref, keep=b'/')}/log"
        self._query = [*query, ("follow", "1")]
        self._offset: int | None = None
        self.attempt: int | None = None

    def copy_out(self) -> None:
        """Print it until the container has ended, through restarts of the daemon."""
        patience = Patience(self._command, FOLLOW_SECONDS_MAX)
        while True:
            try:
                answer = send("GET", self._path, self._where(), seconds_max=None)
                patience.found()
                self._begin(answer)
                self._copy(answer)
                return
            except DaemonAway as error:
                patience.lost(error, then=GOES_ON)

    def _where(self) -> Query:
        """Ask for the part that is still missing."""
        if self._offset is None:
            return self._query
        query = [(k, v) for k, v in self._query if k not in ("tail", "attempt")]
        if self.attempt is not None:
            query.append(("attempt", str(self.attempt)))
        return [*query, ("offset", str(self._offset))]

    def _begin(self, answer: Answer) -> None:
        if self._offset is None:
            warn(self._command, answer.warnings())
        attempt = answer.header("x-dora-attempt") or ""
        if attempt.isdigit():
            self.attempt = int(attempt)
        start = answer.header("x-dora-offset") or ""
        if start.isdigit():
            self._offset = int(start)
        elif self._offset is None:
            self._offset = 0

    def _copy(self, answer: Answer) -> None:
        for piece in answer.body():
            write_out(piece)
            self._offset = (self._offset or 0) + len(piece)


def follow_log(command: str, ref: str, query: Query) -> int:
    """Print a log until its container has ended."""
    LogReader(command, ref, query).copy_out()
    return 0


def wait_workload(command: str, ref: str) -> int:
    """Wait for the end of a workload; the exit status is its exit code."""
    try:
        while not (record := _wait(command, ref, WAIT_SECONDS)).get("ended"):
            pass
    except KeyboardInterrupt:
        _tell_it_goes_on(command, ref)
        raise
    return _exit_status(command, ref, record)


def follow_workload(command: str, ref: str) -> int:
    """Print the log, attempt after attempt; the exit status is the exit code."""
    query: Query = []
    try:
        while True:
            reader = LogReader(command, ref, query)
            try:
                reader.copy_out()
            except AnsweredError:
                # The next attempt, which may never begin; the first has a log.
                if not query:
                    raise
            record = _wait(command, ref, 1 if reader.attempt else WAIT_SECONDS)
            if record.get("ended"):
                return _exit_status(command, ref, record)
            if reader.attempt:
                query = [("attempt", str(reader.attempt + 1))]
    except KeyboardInterrupt:
        _tell_it_goes_on(command, ref)
        raise


def _wait(command: str, ref: str, seconds: int) -> Record:
    """Ask once how a workload stands, waiting up to so many seconds for its end."""
    path = f"/v1/workloads/{quote(ref, keep=b'/')}/wait"
    patience = Patience(command, FOLLOW_SECONDS_MAX)
    while True:
        try:
            return read_record(send("GET", path, [("seconds", str(seconds))]))
        except DaemonAway as error:
            patience.lost(error, then=GOES_ON)


def _exit_status(command: str, ref: str, record: Record) -> int:
    """The exit code of an ended workload, or 1 where it has none."""
    code = record.get("exit_code")
    outcome = str(record.get("outcome") or "without an outcome")
    if outcome == "done":
        return 0
    told = "" if code is None else f", exit code {code}"
    note(command, f"workload {ref} ended: {outcome}{told}")
    if isinstance(code, int) and 0 < code < 256:
        return code
    return EXIT_NO_CODE


def _tell_it_goes_on(command: str, ref: str) -> None:
    note(command, f"workload {ref} goes on; see dlog -f {ref}, or dcancel {ref}")
