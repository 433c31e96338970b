"""The question of a what-if: the site's history and policy, read at one moment.

Reads the database and the books; plays nothing and changes nothing.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from dorabatch.daemon.state.facts_json import facts_to_json
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.whatif.make_books import playable
from dorabatch.daemon.whatif.site_history import (
    EarlierRun,
    PastJob,
    PastNode,
    PricedAt,
    WhatifQuestion,
)
from dorabatch.errors import NotFound
from dorabatch.fairshare.turn.settings import policy_settings
from dorabatch.queue.columns import number_of
from dorabatch.queue.past import JobRun, ended_runs, job_runs
from dorabatch.units import microseconds_of

EARLIER_MAX = 20_000
"""Runs before the history that are read, the latest."""


def ask(
    services: Services, changes: dict[str, str], start: datetime, shakes: int
) -> WhatifQuestion:
    """The question about what was submitted since a moment."""
    zone, now = services.settings.zone, services.clock.now()
    then = dict(services.policy.settings.texts)
    specs: dict[str, int] = {}
    with services.engine.connect() as connection:
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
    if not any(job.is_counted for job in jobs):
        raise NotFound(
            f"nothing was submitted since {start:%Y-%m-%d %H:%M} that ran and has "
            "ended; name a longer --since"
        )
    question = WhatifQuestion(
        zone=zone,
        start_us=microseconds_of(start),
        jobs=tuple(jobs),
        earlier=tuple(reversed(earlier)),
        specs=tuple(specs),
        nodes=_nodes(services),
        accounts=tuple(services.policy.rows),
        people=services.people.texts(),
        prices=_prices(services),
        settings=services.settings.model_dump(
            mode="json", include={"cycle", "credits"}
        ),
        then=then,
        now=policy_settings(then, changes).texts,
        shakes=shakes,
    )
    return _fitting(question)


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


def _nodes(services: Services) -> tuple[PastNode, ...]:
    return tuple(
        PastNode(settings=view.settings, facts=facts_to_json(view.facts))
        for view in services.fleet.views()
        if view.facts is not None
    )


def _prices(services: Services) -> tuple[PricedAt, ...]:
    return tuple(
        PricedAt(
            zone=one.zone,
            model=one.model,
            per_hour=int(one.per_hour),
            valid_from_us=microseconds_of(one.valid_from),
        )
        for one in services.credits.price_list()
    )
