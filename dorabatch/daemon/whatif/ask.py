"""The question of a what-if: the site's history and policy, read at one moment.

Reads the database and the books; plays nothing and changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Engine

from dorabatch.config import Settings
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.facts_json import facts_to_json
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.daemon.whatif.make_books import playable
from dorabatch.daemon.whatif.site_history import (
    EarlierRun,
    PastJob,
    PastNode,
    PricedAt,
    WhatifQuestion,
)
from dorabatch.errors import NotFound
from dorabatch.fairshare.money.price import Price
from dorabatch.fairshare.turn.settings import policy_settings
from dorabatch.queue.demand import number_of
from dorabatch.queue.past import JobRun, ended_runs, job_runs
from dorabatch.units import microseconds_of

EARLIER_MAX = 20_000
"""Runs before the history that are read, the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryReader:
    """Reads what a site did, and by which policy."""

    engine: Engine
    policy: SitePolicy
    users: DeclaredUsers
    fleet: Fleet
    credits: CreditBook
    settings: Settings

    def ask(
        self, changes: dict[str, str], start: datetime, shakes: int, now: datetime
    ) -> WhatifQuestion:
        """The question about what was submitted since a moment, as of now."""
        then = dict(self.policy.settings.texts)
        specs: dict[str, int] = {}
        jobs, earlier = self._past(specs, start, now)
        if not any(job.is_counted for job in jobs):
            raise NotFound(
                f"nothing was submitted since {start:%Y-%m-%d %H:%M} that ran and has "
                "ended; name a longer --since"
            )
        question = WhatifQuestion(
            zone=self.settings.zone,
            start_us=microseconds_of(start),
            jobs=tuple(jobs),
            earlier=tuple(reversed(earlier)),
            specs=tuple(specs),
            nodes=_nodes(self.fleet.views()),
            accounts=tuple(self.policy.rows),
            people=self.users.texts(),
            prices=_prices(self.credits.price_list()),
            settings=self.settings.model_dump(
                mode="json", include={"cycle", "credits"}
            ),
            then=then,
            now=policy_settings(then, changes).texts,
            shakes=shakes,
        )
        return _fitting(question)

    def _past(
        self, specs: dict[str, int], start: datetime, now: datetime
    ) -> tuple[list[PastJob], list[EarlierRun]]:
        """What was submitted since the start, and what was over before it."""
        zone = self.settings.zone
        with self.engine.connect() as connection:
            jobs = _jobs(job_runs(connection, zone, start), specs, start, now)
            latest = ended_runs(connection, zone, latest=EARLIER_MAX)
            earlier = [
                EarlierRun(
                    user=run.user,
                    spec=number_of(specs, run.spec_json),
                    gpu_models=run.gpu_models,
                    started_us=microseconds_of(run.started_at),
                    ended_us=microseconds_of(run.ended_at),
                    outcome=run.outcome,
                )
                for run in latest
                if run.ended_at <= start
            ]
        return jobs, earlier


def _fitting(question: WhatifQuestion) -> WhatifQuestion:
    found = playable(question)
    if not any(job.is_counted for job in found.jobs):
        raise NotFound(
            f"none of the {len(question.jobs)} jobs fits a node that is known and "
            "enabled now; see dnode list"
        )
    return replace(found, left_out=len(question.jobs) - len(found.jobs))


def _jobs(
    runs: Iterable[JobRun], specs: dict[str, int], start: datetime, now: datetime
) -> list[PastJob]:
    """What was submitted since and is over counts; the rest takes its place."""
    numbers: dict[int, int] = {}
    found = []
    for run in runs:
        is_new = run.submitted_at >= start
        # What waited at the start is played from there on.
        submitted = max(run.submitted_at, min(start, run.started_at))
        found.append(
            PastJob(
                workload=number_of(numbers, run.workload_id),
                replica=run.replica,
                user=run.user,
                workspace=run.workspace,
                spec=number_of(specs, run.spec_json),
                submitted_us=microseconds_of(submitted),
                started_us=microseconds_of(run.started_at),
                ended_us=microseconds_of(run.ended_at or now),
                outcome=run.outcome or "done",
                is_counted=is_new and run.ended_at is not None,
            )
        )
    return found


def _nodes(views: Iterable[NodeView]) -> tuple[PastNode, ...]:
    return tuple(
        PastNode(settings=view.settings, facts=facts_to_json(view.facts))
        for view in views
        if view.facts is not None
    )


def _prices(prices: Iterable[Price]) -> tuple[PricedAt, ...]:
    return tuple(
        PricedAt(
            zone=one.zone,
            model=one.model,
            per_hour=int(one.per_hour),
            valid_from_us=microseconds_of(one.valid_from),
        )
        for one in prices
    )
