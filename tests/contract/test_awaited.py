"""What has become of workloads that others wait for, the same on each database."""

from dataclasses import replace

from sqlalchemy import Engine

from dorabatch.db import transaction
from dorabatch.queue import store
from dorabatch.queue import transitions as to
from dorabatch.queue.awaited import AwaitedFact, Ending
from dorabatch.queue.awaited_rows import awaited_facts, live_dependencies
from dorabatch.queue.records import WorkloadId
from dorabatch.queue.states import Outcome
from tests.makers import START, ZONE, hold, later, new_workload


def test_facts_and_live_dependencies(engine: Engine) -> None:
    new = [
        new_workload("queued"),
        new_workload("running"),
        new_workload("requeued"),
        new_workload("ended", replicas=2),
        new_workload("empty", replicas=0),
        new_workload("waits", dependency="afterok:1,after:2"),
        new_workload("over", dependency="afterok:1"),
    ]
    with transaction(engine) as tx:
        first = store.take_ids(tx, "workload", len(new))
        made = store.insert_workloads(tx, new, first)
        found = {one.name: store.containers_of(tx, one.workload_id) for one in made}
        (one,) = found["running"]
        store.save_containers(tx, [(one, replace(one, rev=2, started_at=START))])
        (one,) = found["requeued"]
        placed = to.placed(one, hold(), 1)
        store.insert_runs(tx, [replace(to.new_run(placed, START), started_at=START)])
        again = replace(one, rev=2, attempt=1)
        store.save_containers(tx, [(one, again)])
        for one, outcome, code in zip(
            found["ended"], (Outcome.DONE, Outcome.FAILED), (0, 3), strict=True
        ):
            over = to.told_to_end(one, outcome, "x", START)
            store.save_containers(tx, [(one, replace(over, exit_code=code))])
        for at in (3, 4, 6):
            store.save_workload(tx, replace(made[at], ended_at=later(9)))
    ids = [WorkloadId(first + at) for at in range(len(new))]
    with engine.connect() as connection:
        facts = {
            fact.workload_id - first: fact
            for fact in awaited_facts(connection, [*ids[:5], WorkloadId(999)])
        }
        waits = live_dependencies(connection, ZONE)
    assert waits == {ids[5]: "afterok:1,after:2"}

    def fact(at: int, **known: object) -> AwaitedFact:
        return replace(AwaitedFact(workload_id=ids[at]), **known)

    assert facts == {
        0: fact(0),
        1: fact(1, has_begun=True),
        2: fact(2, has_begun=True),
        3: fact(3, ending=Ending(outcome=Outcome.FAILED, exit_code=3)),
        4: fact(4, ending=Ending(outcome=Outcome.CANCELLED)),
    }
