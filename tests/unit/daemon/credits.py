"""A daemon with prices and users, and how its containers come and go in tests."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from dorabatch.daemon.intake.kind_table import Applied
from dorabatch.daemon.runs.settle import end_containers, settle_gone
from dorabatch.daemon.timers.credit_charges import CreditCharges
from dorabatch.fairshare.money.book import Entry
from dorabatch.fairshare.money.standing import Standing
from dorabatch.fairshare.store import ledger, ledger_tables
from dorabatch.fairshare.store.ledger_check import check_ledger
from dorabatch.node.facts import GpuFacts
from dorabatch.queue import store
from dorabatch.queue import transitions as to
from dorabatch.queue.records import Container
from dorabatch.queue.states import AfterStop, Outcome, State
from dorabatch.resources.manifest import parse_manifest
from dorabatch.units import microseconds_of
from tests.makers import V100, ZONE, facts, node_settings
from tests.unit.daemon.conftest import Parts, caller

PRICE = """
apiVersion: v1
kind: Resourcecredit
metadata:
  zone: dc-rov-01
  name: {name}
spec:
  product_name: {name}
  credit:
    per:
      hour: {hour}
"""
USER = """
apiVersion: v1
kind: User
metadata:
  name: {name}
spec:
  credits:
  - zone: dc-rov-01
    weekly: {weekly}
"""


@dataclass(slots=True, kw_only=True)
class Site:
    """One daemon's parts, its beat, and what was to be stopped or warned of."""

    parts: Parts
    beat: CreditCharges
    warned: list[str]
    gpus: tuple[GpuFacts, ...] = facts().gpus

    def apply(self, text: str) -> Applied:
        """Apply one document as an admin."""
        (document,) = parse_manifest(text, path="x.yaml").documents
        return self.parts.apply(caller(is_admin=True), document)

    def price(self, hour: object, name: str = V100) -> None:
        """Set the price of a model."""
        self.apply(PRICE.format(name=name, hour=hour))

    def weekly(self, amount: object, mode: str = "stop", name: str = "alice") -> None:
        """Give a user weekly credit."""
        self.apply(USER.format(name=name, weekly=amount) + f"    onExhaust: {mode}\n")

    def cycle(self) -> None:
        """One scheduling cycle."""
        self.seen()
        self.parts.cycle.run()

    def seen(self) -> None:
        """The node answers."""
        self.parts.books.fleet.seen("n1", self.parts.clock.now(), facts(gpus=self.gpus))

    def wait(self, seconds: float, *, beat: bool = True) -> list[Container]:
        """Let time go by; what credit stops at its end."""
        self.parts.clock.advance(seconds)
        self.seen()
        return self.tend() if beat else []

    def tend(self) -> list[Container]:
        """One beat of credit."""
        now = self.parts.clock.now()
        return self.beat.beat(now, lambda _c, _key, text: self.warned.append(text))

    def start(self, workload_id: int, replica: int = 1) -> Container:
        """Bring a placed container to RUNNING."""
        one = self.parts.container(workload_id, replica)
        assert one.state is State.PLACED, (one.state, self.reason(one))
        started = self.parts.change(one, to.starting)
        now = self.parts.clock.now()
        return self.parts.change(started, lambda c: to.running(c, "d1", now))

    def run(self, name: str, **changes: Any) -> int:
        """Submit, place and start; the workload's id."""
        done = self.parts.submit(name, **changes)
        self.cycle()
        self.start(done.workload_id)
        return done.workload_id

    def end(
        self,
        workload_id: int,
        *,
        outcome: Outcome = Outcome.DONE,
        after: AfterStop = AfterStop.FINISH,
        at: float = 0.0,
    ) -> Container:
        """End a running or stopping container `at` seconds ago, and settle it."""
        one = self.parts.container(workload_id)
        now = self.parts.clock.now()
        if one.state is State.RUNNING:
            one = self.parts.change(one, lambda c: to.stopping(c, after, outcome, "x"))
        ended = now - timedelta(seconds=at)
        one = self.parts.change(
            one, lambda c: to.exited(c, exit_code=0, started_at=None, ended_at=ended)
        )
        billing = self.parts.books.billing
        return self.parts.effects.writer.do(
            lambda tx: settle_gone(tx, billing, one, now)
        )

    def cancel(self, workload_id: int) -> None:
        """Cancel a workload."""
        now = self.parts.clock.now()
        self.parts.effects.writer.do(
            lambda tx: end_containers(
                tx,
                store.containers_of(tx, workload_id),
                outcome=Outcome.CANCELLED,
                reason="x",
                now=now,
            )
        )

    def standing(self, account: str = "alice") -> Standing:
        """Where an account stands, by memory, checked against the ledger."""
        now = self.parts.clock.now()
        found = self.parts.books.credits.standing_of(account, now)
        with self.parts.effects.engine.connect() as connection:
            asked = ledger.balances(
                connection, ZONE, [account], at=microseconds_of(now)
            )[account]
            assert check_ledger(connection) == []
        if found.available is not None:
            assert (asked.available, asked.liens) == (found.available, found.liens)
        return found

    def reason(self, one: Container) -> str:
        """Why a container waits."""
        why = self.parts.books.latest.last.waits.get(one.container_id)
        return why.sentence if why is not None else ""

    def entries(self, kind: str = "") -> list[Entry]:
        """What was posted."""
        with self.parts.effects.engine.connect() as connection:
            found = list(ledger.entries(connection))
        return [e for e in found if kind in ("", e.posting.kind)]

    def charged(self) -> int:
        """All revenue there is."""
        with self.parts.effects.engine.connect() as connection:
            rows = connection.execute(select(ledger_tables.BALANCES)).all()
        return sum(row.ucr for row in rows if row.ledger_account[:8] == "revenue:")


def site_of(parts: Parts) -> Site:
    """A site with one ready node of four V100."""
    parts.books.fleet.put(node_settings())
    made = Site(parts=parts, beat=parts.timers.credit_charges, warned=[])
    made.seen()
    return made
