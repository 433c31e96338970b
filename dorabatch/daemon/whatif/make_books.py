"""The daemon's books without a database: what a play decides by.

The same classes that dorad keeps in memory, filled from a question. What waited for
other workloads is played as if it waited for none. Writes nothing anywhere else.
"""

from collections.abc import Mapping
from dataclasses import replace

from dorabatch.config import Settings
from dorabatch.daemon.cycle.take_snapshot import cluster_arrays, mask_of
from dorabatch.daemon.intake.admission_checks import check_can_ever_run
from dorabatch.daemon.state.assembly import empty_books
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.claim_book import RunHistory
from dorabatch.daemon.state.facts_json import facts_from_json
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.snapshot import accepts_table
from dorabatch.daemon.state.spec_units import demand_of
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.daemon.whatif.site_history import EarlierRun, PastJob, WhatifQuestion
from dorabatch.errors import Refused
from dorabatch.fairshare.money.price import Price
from dorabatch.placer.arrays.types import ClusterArrays, Mask
from dorabatch.queue.demand import Demand, Restriction
from dorabatch.queue.past import PastRun
from dorabatch.queue.records import Submitter, Workload, WorkloadId
from dorabatch.units import MicroCredits, moment_of


def open_books(question: WhatifQuestion, texts: Mapping[str, str]) -> Books:
    """The books at the beginning of a history, under policy settings by key."""
    settings = Settings.model_validate({**question.settings, "zone": question.zone})
    fleet = fleet_of(question)
    books = empty_books(
        settings, fleet=fleet, ended_max=0, demand=_Demands(fleet), policy_file={}
    )
    books.policy.play(texts, question.accounts)
    books.users.declare(question.people)
    books.credits.apply(_prices(question))
    _learn(books.history, books.usage, question)
    return books


def fleet_of(question: WhatifQuestion) -> Fleet:
    """The nodes as they are now, all of them answering."""
    fleet, now = Fleet(), moment_of(question.start_us)
    for node in question.nodes:
        fleet.put(node.settings)
        fleet.seen(node.settings.name, now, facts_from_json(node.facts))
    return fleet


class _Demands:
    """What a replica asks for; names of nodes and CPUs that are gone ask nothing."""

    def __init__(self, fleet: Fleet) -> None:
        self._nodes = {view.name for view in fleet.views()}
        self._cpus = {view.facts.cpu_model for view in fleet.views() if view.facts}
        self._known: dict[tuple[str, int], Demand] = {}

    def __call__(self, workload: Workload, replica: int) -> Demand:
        key = workload.spec_json, replica
        if key not in self._known:
            self._known[key] = self._present(demand_of(workload, replica))
        return self._known[key]

    def _present(self, demand: Demand) -> Demand:
        asked = demand.restriction
        left = replace(
            asked,
            nodes=tuple(name for name in asked.nodes if name in self._nodes),
            cpu_models=tuple(one for one in asked.cpu_models if one in self._cpus),
        )
        return replace(demand, restriction=left)


def _prices(question: WhatifQuestion) -> list[Price]:
    return [
        Price(
            zone=one.zone,
            model=one.model,
            per_hour=MicroCredits(one.per_hour),
            valid_from=moment_of(one.valid_from_us),
        )
        for one in question.prices
    ]


def _learn(history: RunHistory, usage: UsageBook, question: WhatifQuestion) -> None:
    """Take over what was run before: for guesses, and as use."""
    start = moment_of(question.start_us)
    for number, one in enumerate(question.earlier):
        run = _past_run(number, one, question.specs[one.spec])
        history.apply([run])
        row = usage.with_run(run, (), start, usage.in_memory())
        if row is not None:
            usage.apply([row])


def _past_run(number: int, one: EarlierRun, spec_json: str) -> PastRun:
    return PastRun(
        run=f"earlier.{number}",
        user=one.user,
        spec_json=spec_json,
        gpu_models=one.gpu_models,
        started_at=moment_of(one.started_us),
        ended_at=moment_of(one.ended_us),
        outcome=one.outcome,
    )


def playable(question: WhatifQuestion) -> WhatifQuestion:
    """The question without jobs that none of the nodes could run, even empty."""
    books = open_books(replace(question, earlier=()), question.then)
    board, known = books.board, dict[tuple[int, int], bool]()
    cluster = cluster_arrays(books.fleet.views(), board)
    usable = cluster.enabled & cluster.ready
    kept = []
    for job in question.jobs:
        key = job.spec, job.replica
        if key not in known:
            demand = board.demand_of(workload_of(question, job), job.replica)
            mask = _mask(books.fleet, demand.restriction)
            mask = replace(mask, allowed=mask.allowed & usable)
            known[key] = _may_run(demand, cluster, mask)
        if known[key]:
            kept.append(job)
    return replace(question, jobs=tuple(kept))


def workload_of(question: WhatifQuestion, job: PastJob) -> Workload:
    """The workload of a job, as one that is submitted again."""
    return Workload(
        workload_id=WorkloadId(job.workload + 1),
        zone=question.zone,
        workspace=job.workspace,
        name=str(job.workload),
        submitter=Submitter(user=job.user, uid=0, gid=0),
        spec_json=question.specs[job.spec],
        spec_digest="",
        version=1,
        replicas=1,
        submission_key=None,
        submitted_at=moment_of(job.submitted_us),
    )


def _mask(fleet: Fleet, restriction: Restriction) -> Mask:
    return mask_of(replace(restriction, ports=()), fleet.views())


def _may_run(demand: Demand, cluster: ClusterArrays, mask: Mask) -> bool:
    accepts = accepts_table([demand.gpu_models], cluster.models)[0]
    try:
        check_can_ever_run(demand, cluster, accepts.tolist(), mask)
    except Refused:
        return False
    return True
