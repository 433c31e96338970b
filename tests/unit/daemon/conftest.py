"""A daemon's parts put together as `main` does, on SQLite, without any node."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dorabatch.clock import FakeClock
from dorabatch.config import Settings
from dorabatch.daemon.api.http import Context
from dorabatch.daemon.intake.admit import Intake
from dorabatch.daemon.intake.node_kind import Nodes
from dorabatch.daemon.intake.submissions import Submissions, Submitted
from dorabatch.daemon.intake.workload_kind import WorkloadApplier
from dorabatch.daemon.main import compose
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.schema import migrate
from dorabatch.daemon.state.services import Services
from dorabatch.db import Tx
from dorabatch.queue import store
from dorabatch.queue import transitions as to
from dorabatch.queue.records import Container, Hold, Submitter
from dorabatch.queue.states import State
from tests.makers import ALICE, START, ZONE, hold, new_workload

SECONDS = 20


def caller(who: Submitter = ALICE, *, is_admin: bool = False) -> Caller:
    """Somebody at the socket."""
    return Caller(submitter=who, is_admin=is_admin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One daemon's parts and its clock, which a test moves."""

    context: Context
    clock: FakeClock

    @property
    def services(self) -> Services:
        """What the parts share."""
        return self.context.services

    def submit(self, name: str, **changes: Any) -> Submitted:
        """Store a submission of alice's."""
        changes.setdefault("submitted_at", self.clock.now())
        new = new_workload(name, **changes)
        return self.context.submissions.submit(new).result(SECONDS)

    def container(self, workload_id: int, replica: int = 1) -> Container:
        """A container as the board knows it."""
        board = self.services.board
        return board.containers[board.replicas[workload_id][replica]]

    def change(
        self, one: Container, change: Callable[[Container], Container]
    ) -> Container:
        """Store a changed container."""
        after = change(one)
        self.services.writer.do(lambda tx: store.save_containers(tx, [(one, after)]))
        return after

    def place(self, one: Container, where: Hold | None = None) -> Container:
        """Give a container a place."""
        after = to.placed(one, where or hold(), one.version)

        def write(tx: Tx) -> None:
            store.save_containers(tx, [(one, after)])
            store.insert_runs(tx, [to.new_run(after, self.clock.now())])

        self.services.writer.do(write)
        return after

    def run(self, one: Container, where: Hold | None = None) -> Container:
        """Bring a queued container to RUNNING."""
        started = self.change(self.place(one, where), to.starting)
        now = self.clock.now()
        return self.change(started, lambda c: to.running(c, "d1", now))

    def states(self, workload_id: int) -> list[State]:
        """The states of a workload's containers, removed ones too."""
        with self.services.engine.connect() as connection:
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
    services, clock = compose(settings), FakeClock(START)
    services.clock = clock
    keepers, intake = Keepers(services), Intake(services)
    submissions = Submissions(services)
    context = Context(
        services=services,
        keepers=keepers,
        intake=intake,
        submissions=submissions,
        applier=WorkloadApplier(services, keepers, intake, submissions),
        nodes=Nodes(services, keepers),
    )
    yield Parts(context=context, clock=clock)
    keepers.stop()
    services.writer.stop()
    services.engine.dispose()
