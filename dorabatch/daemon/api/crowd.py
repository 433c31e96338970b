"""How much each user has open at the daemon, and how much they may.

Counts connections, requests at work and streams by uid, on the API's loop alone. Root
and the admins, the operators, have connections in reserve and no limits of their own.
Knows no socket.
"""

import pwd
from collections import Counter
from collections.abc import Iterable

from dorabatch.config import ApiSettings
from dorabatch.errors import DaemonBusy, DorabatchError, TooMuchOpen

_FILES_BESIDE = 256
"""Open files that are no connections: the database, nodes, logs."""
_FILES_A_CONNECTION = 2
"""One that follows a log has a file of its own."""


def operators(admins: Iterable[str]) -> frozenset[int]:
    """The uids of root and of those admins whom this machine knows."""
    found = {0}
    for name in admins:
        try:
            found.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    return frozenset(found)


def fitted(api: ApiSettings, files: int) -> ApiSettings:
    """The limits, lower where a process may not have so many files open.

    However few these are, one user has at most half of what all users have.
    """
    most = max(4, (files - _FILES_BESIDE) // _FILES_A_CONNECTION)
    if most >= api.connections_max:
        return api
    reserved = min(api.connections_reserved, most // 4)
    mine = min(api.connections_per_user, (most - reserved) // 2)
    return api.model_copy(
        update={
            "connections_max": most,
            "connections_reserved": reserved,
            "connections_per_user": mine,
        }
    )


class Allowances:
    """What is open now, of each user and of all."""

    def __init__(self, api: ApiSettings, exempt: frozenset[int]) -> None:
        self._api = api
        self._exempt = exempt
        self._connections: Counter[int] = Counter()
        self._requests: Counter[int] = Counter()
        self._streams: Counter[int] = Counter()
        self._open = 0

    def connect(self, uid: int) -> None:
        """Count a new connection; raises TooMuchOpen or DaemonBusy instead."""
        api, is_exempt = self._api, uid in self._exempt
        if not is_exempt:
            _check(
                self._connections[uid],
                api.connections_per_user,
                "connections open at the daemon",
                "api.connections_per_user",
            )
        room = api.connections_max - (0 if is_exempt else api.connections_reserved)
        if self._open >= room:
            raise DaemonBusy(
                f"{self._open} connections are open at the daemon (allowed for all "
                f"users together: {room}, by api.connections_max); try again in a "
                "moment"
            )
        self._connections[uid] += 1
        self._open += 1

    def disconnect(self, uid: int) -> None:
        """A counted connection has ended."""
        _less(self._connections, uid)
        self._open -= 1

    def visit(self, uid: int) -> "Visit":
        """Count a request as at work; raises TooMuchOpen instead."""
        if uid not in self._exempt:
            _check(
                self._requests[uid],
                self._api.requests_per_user,
                "requests at work at the daemon",
                "api.requests_per_user",
            )
        self._requests[uid] += 1
        return Visit(self, uid)

    def begin_stream(self, uid: int) -> None:
        """Count a request at work as a stream from now on; raises TooMuchOpen."""
        if uid not in self._exempt:
            _check(
                self._streams[uid],
                self._api.streams_per_user,
                "streams open at the daemon (dlog -f, dsub -f, dsub --wait)",
                "api.streams_per_user",
            )
        _less(self._requests, uid)
        self._streams[uid] += 1

    def end(self, uid: int, *, is_stream: bool) -> None:
        """A counted request has been answered."""
        _less(self._streams if is_stream else self._requests, uid)


class Visit:
    """One request of one user, counted until its answer has ended."""

    def __init__(self, allowances: Allowances, uid: int) -> None:
        self._allowances = allowances
        self._uid = uid
        self._is_stream = False

    def begin_stream(self) -> None:
        """It waits from now on; raises TooMuchOpen where the user has too many such."""
        self._allowances.begin_stream(self._uid)
        self._is_stream = True

    def end(self) -> None:
        """It has been answered, or given up."""
        self._allowances.end(self._uid, is_stream=self._is_stream)


def error_record(error: DorabatchError) -> dict[str, dict[str, object]]:
    """What an answer that is an error says."""
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "exit_status": error.exit_status,
        }
    }


def _check(has: int, limit: int, what: str, setting: str) -> None:
    if has >= limit:
        raise TooMuchOpen(
            f"you have {has} {what} (allowed for one user: {limit}, {setting}); end "
            "some of them, or try again in a moment"
        )


def _less(counts: Counter[int], uid: int) -> None:
    counts[uid] -= 1
    if not counts[uid]:
        del counts[uid]
