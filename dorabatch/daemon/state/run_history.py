"""What users ran before, for guesses of how long something will take.

Reads the latest runs at the start and takes over each that ends. Decides nothing:
`fairshare.estimate` guesses.
"""

import math
import threading
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Connection

from dorabatch.daemon.state.spec_cache import spec_of_text
from dorabatch.fairshare.turn.run_length import UNKNOWN_SECONDS, History
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
