"""What each claim of the queue is worth, and the runs from which its length is guessed.

Columns by claim for ranking and planning, kept while nothing that they depend on
changes: whoever reads them gets arrays that are never changed again. Claims are written
and read, under their lock, by every thread that ranks; past runs are written by the
writer's thread after each commit. Decides nothing: guesses are `run_length`'s, points
the settings'.
"""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.spec_units import spec_of_text
from dorabatch.fairshare.turn.run_length import UNKNOWN_SECONDS, History
from dorabatch.fairshare.turn.settings import PolicySettings
from dorabatch.placer.arrays.types import UNKNOWN_US
from dorabatch.queue.demand import Claim
from dorabatch.queue.past import PastRun, ended_runs

RUNS_MAX = 20_000
_BY_THEMSELVES = frozenset({"done", "failed", "timeout"})


class RunHistory:
    """The zone's runs by user, GPUs and limit."""

    def __init__(self) -> None:
        self._history = History()
        self._lock = threading.Lock()
        self._revision = 0
        self._changed_at: dict[str, int] = {}

    def load(self, connection: Connection, zone: str) -> None:
        """Read the latest runs."""
        latest = list(ended_runs(connection, zone, latest=RUNS_MAX))
        self.apply(reversed(latest))

    def apply(self, changes: Iterable[object]) -> None:
        """Take over the runs among what a commit noted."""
        with self._lock:
            for change in changes:
                if isinstance(change, PastRun) and change.outcome in _BY_THEMSELVES:
                    self._add(change)

    def changed_since(self, revision: int) -> tuple[int, Callable[[str], bool]]:
        """(revision now, whether a user's guesses may differ since the one given).

        Who never ran anything is guessed by what all others ran.
        """
        with self._lock:
            changed_at = dict(self._changed_at)
            now = self._revision

        def is_changed(user: str) -> bool:
            return changed_at.get(user, now) > revision

        return now, is_changed

    def predicted(self, claim: Claim) -> float:
        """Seconds that a run of this claim will take, by its user's latest runs."""
        with self._lock:
            seconds = self._history.predicted(
                user=claim.user, gpus=claim.gpu_count, limit=limit_of(claim)
            )
        return UNKNOWN_SECONDS if math.isinf(seconds) else seconds

    def planned(self, claim: Claim) -> float:
        """Seconds to plan with; math.inf: no limit, and its user never ran anything."""
        with self._lock:
            return self._history.planned(
                user=claim.user, gpus=claim.gpu_count, limit=limit_of(claim)
            )

    def quantiles(
        self, claim: Claim, parts: Sequence[float], *, ran: float = 0.0
    ) -> tuple[float, ...]:
        """Seconds at parts of the range of its run; `ran` so long already."""
        with self._lock:
            return self._history.quantiles(
                parts,
                user=claim.user,
                gpus=claim.gpu_count,
                limit=limit_of(claim),
                ran=ran,
            )

    def _add(self, run: PastRun) -> None:
        spec = spec_of_text(run.spec_json)
        self._revision += 1
        self._changed_at[run.user] = self._revision
        self._history.add(
            user=run.user,
            gpus=spec.gpu_count,
            limit=float(spec.config.run_seconds_max or math.inf),
            run_seconds=(run.ended_at - run.started_at).total_seconds(),
        )


def limit_of(claim: Claim) -> float:
    """How long a claim's run may take, in seconds."""
    return float(claim.run_seconds_max or math.inf)


FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MILLI = 1000
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimColumns:
    """One row a claim; `user` indexes `users`.

    Predicted run in seconds, run to plan with (UNKNOWN_US where nobody knows), GPUs
    of a container, points in millions.
    """

    users: tuple[str, ...]
    user: IntArray
    run_seconds: FloatArray
    planned_us: IntArray
    gpus: FloatArray
    points: IntArray
    nice: IntArray


class ClaimBook:
    """The columns of the claims that were seen last."""

    def __init__(self, policy: SitePolicy, history: RunHistory) -> None:
        self._policy = policy
        self._history = history
        self._lock = threading.Lock()
        self._claims: tuple[Claim, ...] = ()
        self._users: dict[str, int] = {}
        self._columns = _columns(())
        self._policy_seen = -1
        self._history_seen = 0

    def columns(self, claims: tuple[Claim, ...]) -> ClaimColumns:
        """The columns of these claims; a list that only grew costs its new end."""
        with self._lock:
            known = len(self._claims)
            if claims[:known] != self._claims:
                self._claims, self._users, known = (), {}, 0
                self._columns = _columns(())
            if self._policy_seen != self._policy.revision:
                self._policy_seen = self._policy.revision
                points = self._points(self._claims)
                self._columns = replace(self._columns, points=points)
            self._renew_guesses()
            if len(claims) > known:
                self._extend(claims, known)
            return self._columns

    def _extend(self, claims: tuple[Claim, ...], known: int) -> None:
        new = claims[known:]
        more = replace(
            _columns(new),
            user=np.array([self._number(claim.user) for claim in new], dtype=np.int64),
            run_seconds=self._predicted(new),
            planned_us=self._planned(new),
            points=self._points(new),
        )
        joined = {
            name: np.concatenate([getattr(self._columns, name), getattr(more, name)])
            for name in more.__dataclass_fields__
            if name != "users"
        }
        self._claims = claims
        self._columns = ClaimColumns(users=tuple(self._users), **joined)

    def _renew_guesses(self) -> None:
        """Guess anew for users of whom a run ended, and for those without any run."""
        revision, changed = self._history.changed_since(self._history_seen)
        if revision == self._history_seen:
            return
        self._history_seen = revision
        stale = [changed(user) for user in self._users]
        rows = np.flatnonzero(np.array(stale, dtype=np.bool_)[self._columns.user])
        if len(rows):
            claims = [self._claims[row] for row in rows.tolist()]
            run_seconds = self._columns.run_seconds.copy()
            planned_us = self._columns.planned_us.copy()
            run_seconds[rows] = self._predicted(claims)
            planned_us[rows] = self._planned(claims)
            self._columns = replace(
                self._columns, run_seconds=run_seconds, planned_us=planned_us
            )

    def _predicted(self, claims: Sequence[Claim]) -> FloatArray:
        predicted = self._history.predicted
        return np.array([predicted(claim) for claim in claims], dtype=np.float64)

    def _planned(self, claims: Sequence[Claim]) -> IntArray:
        seconds = map(self._history.planned, claims)
        planned = [
            UNKNOWN_US if math.isinf(some) else round(some * _MICROSECONDS)
            for some in seconds
        ]
        return np.array(planned, dtype=np.int64)

    def _points(self, claims: Sequence[Claim]) -> IntArray:
        settings = self._policy.settings
        return np.array(
            [points_of(claim, settings) for claim in claims], dtype=np.int64
        )

    def _number(self, user: str) -> int:
        return self._users.setdefault(user, len(self._users))


def points_of(claim: Claim, settings: PolicySettings) -> int:
    """Millions of points of a claim's QOS and workspace; what is gone counts 0."""
    return settings.qos.get(claim.qos, 0) + settings.queues.get(claim.workspace, 0)


def _columns(claims: Sequence[Claim]) -> ClaimColumns:
    count = len(claims)
    gpus = [claim.gpu_count * claim.gpu_milli / MILLI for claim in claims]
    return ClaimColumns(
        users=(),
        user=np.zeros(count, dtype=np.int64),
        run_seconds=np.zeros(count, dtype=np.float64),
        planned_us=np.zeros(count, dtype=np.int64),
        gpus=np.array(gpus, dtype=np.float64),
        points=np.zeros(count, dtype=np.int64),
        nice=np.array([claim.nice for claim in claims], dtype=np.int64),
    )
