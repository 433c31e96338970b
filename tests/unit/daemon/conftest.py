"""A daemon's parts put together as `main` does, on SQLite, without any node."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from dorabatch.clock import FakeClock
from dorabatch.config import Settings
from dorabatch.daemon.api.assembly import app_of
from dorabatch.daemon.assembly import DaemonParts, compose, parts_of
from dorabatch.daemon.cycle.queue_order import QueueOrder
from dorabatch.daemon.cycle.run_cycle import Cycle
from dorabatch.daemon.intake.admit import Intake
from dorabatch.daemon.intake.kind_table import Applied, Named
from dorabatch.daemon.intake.node_kind import Nodes
from dorabatch.daemon.intake.submissions import Submissions, Submitted
from dorabatch.daemon.intake.workload_kind import WorkloadApplier
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.schema import migrate
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.effects import Effects
from dorabatch.daemon.state.rights_book import RightsBook
from dorabatch.daemon.timers.assembly import Timers
from dorabatch.daemon.views.assembly import Views
from dorabatch.daemon.views.table_layout import Row
from dorabatch.db import Tx
from dorabatch.queue import store
from dorabatch.queue import transitions as to
from dorabatch.queue.records import Container, Hold, Submitter
from dorabatch.queue.states import State
from dorabatch.resources.document import Document
from tests.makers import ALICE, START, ZONE, hold, new_workload

SECONDS = 20


def caller(who: Submitter = ALICE, *, is_admin: bool = False) -> Caller:
    """Somebody at the socket."""
    return Caller(submitter=who, is_admin=is_admin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One daemon's parts and its clock, which a test moves."""

    daemon: DaemonParts
    clock: FakeClock

    @property
    def books(self) -> Books:
        """What it keeps in memory."""
        return self.daemon.books

    @property
    def effects(self) -> Effects:
        """How it acts."""
        return self.daemon.effects

    @property
    def order(self) -> QueueOrder:
        """The order of its queue."""
        return self.daemon.order

    @property
    def keepers(self) -> Keepers:
        """Its nodes' keepers."""
        return self.daemon.keepers

    @property
    def cycle(self) -> Cycle:
        """Its scheduling cycle."""
        return self.daemon.cycle

    @property
    def views(self) -> Views:
        """What it shows."""
        return self.daemon.views

    @property
    def timers(self) -> Timers:
        """What it does as time goes by."""
        return self.daemon.timers

    @property
    def intake(self) -> Intake:
        """What admits workloads."""
        return self.daemon.intake.admission

    @property
    def submissions(self) -> Submissions:
        """What stores them."""
        return self.daemon.intake.submissions

    @property
    def applier(self) -> WorkloadApplier:
        """What applies Workload documents."""
        return self.daemon.intake.applier

    @property
    def nodes(self) -> Nodes:
        """Its declared nodes."""
        return self.daemon.intake.nodes

    def again(self, *, settings: Settings | None = None, **acts: Any) -> "Parts":
        """The same daemon under other settings, or with other fields of its effects.

        It shares what is kept in memory; only what is made of that is made anew, and
        who has which rights.
        """
        books = self.books
        if settings is not None:
            rights = RightsBook(settings, books.users, books.policy.accounts_of)
            with self.effects.engine.connect() as connection:
                rights.load(connection)
            books = replace(books, settings=settings, rights=rights)
        daemon = parts_of(books, replace(self.effects, **acts))
        return Parts(daemon=daemon, clock=self.clock)

    def caller(self, who: Submitter = ALICE) -> Caller:
        """Somebody at the socket with the roles that they hold now."""
        return self.books.rights.caller(who)

    def app(self) -> Starlette:
        """The application that serves it."""
        one = self.daemon
        return app_of(one.books, one.effects, one.views, one.intake, one.keepers)

    def apply(self, who: Caller, document: Document) -> Applied:
        """Apply one document, as the border does once it has let it pass."""
        entry = self.daemon.intake.kinds.of(document.kind)
        assert entry.apply is not None, entry.kept_by
        return entry.apply(who, document, None)

    def delete(self, who: Caller, kind: str, name: str) -> tuple[str, str]:
        """Delete one object."""
        entry = self.daemon.intake.kinds.of(kind)
        assert entry.delete is not None, entry.kept_by
        return entry.delete(who, Named(name=name, workspace=who.user))

    def find(self, kind: str, name: str) -> Row:
        """One object as a record."""
        named = Named(name=name, workspace=ALICE.user)
        return self.daemon.intake.kinds.of(kind).find(ALICE, named)

    def submit(self, name: str, **changes: Any) -> Submitted:
        """Store a submission of alice's."""
        changes.setdefault("submitted_at", self.clock.now())
        new = new_workload(name, **changes)
        return self.submissions.submit(new).result(SECONDS)

    def container(self, workload_id: int, replica: int = 1) -> Container:
        """A container as the board knows it."""
        board = self.books.board
        return board.containers[board.replicas[workload_id][replica]]

    def change(
        self, one: Container, change: Callable[[Container], Container]
    ) -> Container:
        """Store a changed container."""
        after = change(one)
        self.effects.writer.do(lambda tx: store.save_containers(tx, [(one, after)]))
        return after

    def place(self, one: Container, where: Hold | None = None) -> Container:
        """Give a container a place."""
        after = to.placed(one, where or hold(), one.version)

        def write(tx: Tx) -> None:
            store.save_containers(tx, [(one, after)])
            store.insert_runs(tx, [to.new_run(after, self.clock.now())])

        self.effects.writer.do(write)
        return after

    def run(self, one: Container, where: Hold | None = None) -> Container:
        """Bring a queued container to RUNNING."""
        started = self.change(self.place(one, where), to.starting)
        now = self.clock.now()
        return self.change(started, lambda c: to.running(c, "d1", now))

    def states(self, workload_id: int) -> list[State]:
        """The states of a workload's containers, removed ones too."""
        with self.effects.engine.connect() as connection:
            found = store.containers_of(Tx(connection), workload_id)
        return [one.state for one in found]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with all tables and no rows."""
    path = tmp_path_factory.mktemp("database") / "dorabatch.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a daemon under the test's own directory."""
    return Settings(zone=ZONE, state_dir=tmp_path, socket=tmp_path / "dorad.sock")


@pytest.fixture
def parts(settings: Settings, empty_database: Path) -> Iterator[Parts]:
    """The parts of one daemon; its writer runs."""
    shutil.copy(empty_database, settings.state_dir / "dorabatch.db")
    clock = FakeClock(START)
    books, effects = compose(settings, clock)
    made = Parts(daemon=parts_of(books, effects), clock=clock)
    yield made
    made.keepers.stop()
    effects.writer.stop()
    effects.engine.dispose()
