"""Who is behind a uid, as the machine says.

Asks the name service, and remembers its answers for a minute. Knows no rule.
"""

import os
import pwd

from dorabatch.clock import Clock
from dorabatch.queue.records import Submitter

ACCOUNT_SECONDS = 60.0
LAST_KNOWN_SECONDS = 600.0
_ACCOUNTS_MAX = 4096


class UnixAccounts:
    """Who is behind a uid, as the machine says; looked up again after a minute.

    A failure is no fact: one that has no name is looked up each time, and who had one
    keeps it for some minutes, for the name service may be away. Written and read by the
    API's thread alone.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[int, int], tuple[float, Submitter]] = {}

    def submitter_of(self, uid: int, gid: int) -> Submitter:
        """The account behind a uid; one without a name is called by its number."""
        now = self._clock.monotonic()
        at, known = self._known.get((uid, gid), (now, None))
        if known is not None and now - at < ACCOUNT_SECONDS:
            return known
        found = _named(uid, gid)
        if found is None and known is not None and now - at < LAST_KNOWN_SECONDS:
            return known
        if found is None:
            return Submitter(user=f"uid-{uid}", uid=uid, gid=gid)
        if len(self._known) >= _ACCOUNTS_MAX:
            self._known.clear()
        self._known[uid, gid] = (now, found)
        return found


def _named(uid: int, gid: int) -> Submitter | None:
    try:
        account = pwd.getpwuid(uid)
        # A directory need not list its groups, but says whose member somebody is.
        found = os.getgrouplist(account.pw_name, gid)
    except (KeyError, OSError):
        return None
    groups = tuple(sorted(set(found) - {gid}))
    return Submitter(user=account.pw_name, uid=uid, gid=gid, groups=groups)
