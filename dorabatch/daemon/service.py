"""The daemon's life: start the parts in order, beat, stop them in reverse.

The one place where an unexpected error is caught: it is logged with its trace, and
the beat goes on or, for a broken invariant, the daemon ends. Holds no rule.
"""

import threading

from dorabatch import log
from dorabatch.daemon.api.app import make_app
from dorabatch.daemon.api.http import Context
from dorabatch.daemon.api.server import ApiServer
from dorabatch.daemon.cycle.run_cycle import run_cycle
from dorabatch.daemon.intake.admit import Intake
from dorabatch.daemon.intake.node_kind import Nodes
from dorabatch.daemon.intake.submissions import Submissions
from dorabatch.daemon.intake.workload_kind import WorkloadApplier
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.state.object_store import list_objects
from dorabatch.daemon.state.outbox import Letter
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.timers.credit_charges import CreditCharges
from dorabatch.daemon.timers.forecasts import Forecaster
from dorabatch.daemon.timers.mail_sender import MailSender
from dorabatch.daemon.timers.time_limits import end_overdue
from dorabatch.daemon.views.summary import workload_label
from dorabatch.db import Tx
from dorabatch.errors import DorabatchError, InvariantError
from dorabatch.queue import store
from dorabatch.queue.records import Container, Happening

_LIMITS_SECONDS = 1.0


class Daemon:
    """All threads of one dorad."""

    def __init__(self, services: Services, keepers: Keepers | None = None) -> None:
        self._services = services
        self._keepers = keepers or Keepers(services)
        self._intake = Intake(services)
        self._nodes = Nodes(services, self._keepers)
        self._mail = MailSender(services)
        submissions = Submissions(services)
        self.context = Context(
            services=services,
            keepers=self._keepers,
            intake=self._intake,
            submissions=submissions,
            applier=WorkloadApplier(services, self._keepers, self._intake, submissions),
            nodes=self._nodes,
        )
        self._server: ApiServer | None = None
        self._stopping = threading.Event()
        self._forecaster = Forecaster(services)
        self._thread = threading.Thread(target=self._beat, name="cycle", daemon=True)
        self._limits_at = 0.0
        self._credit = CreditCharges(services)

    def load(self) -> None:
        """Read what was declared, and begin to look after the nodes."""
        with self._services.engine.connect() as connection:
            for workspace in list_objects(connection, "Workspace"):
                self._intake.know_workspace(workspace)
        self._nodes.load()

    def start(self) -> None:
        """Begin to serve."""
        self._server = ApiServer(make_app(self.context), self._services.settings)
        self.load()
        self._thread.start()
        self._forecaster.start()
        self._server.start()
        self._mail.start()
        log.event(
            "ready",
            socket=self._services.settings.socket,
            zone=self._services.settings.zone,
            epoch=self._services.epoch,
            nodes=len(self._services.fleet.views()),
        )

    def run_until(self, stop: threading.Event) -> None:
        """Serve until the event is set or the daemon cannot go on."""
        while not stop.wait(0.5):
            if self._services.writer.failed is not None:
                raise InvariantError(str(self._services.writer.failed))
            if not self._thread.is_alive():
                raise InvariantError("the scheduling thread has ended")

    def stop(self) -> None:
        """Answer what was asked, let go of the nodes; containers go on."""
        self._stopping.set()
        self._services.cycle_wanted.set()
        if self._server is not None:
            self._server.stop()
        if self._thread.is_alive():
            self._thread.join(10.0)
        self._forecaster.stop()
        self._keepers.stop()
        self._mail.stop()
        self._services.writer.stop()
        self._services.engine.dispose()

    def _beat(self) -> None:
        settings = self._services.settings.cycle
        while not self._stopping.is_set():
            self._services.cycle_wanted.clear()
            try:
                self.turn()
            except InvariantError:
                raise
            except DorabatchError as error:
                log.failure("cycle-failed", error)
            except Exception as error:
                log.failure("cycle-bug", error)
            self._stopping.wait(settings.interval_seconds_min)
            self._services.cycle_wanted.wait(self._patience())

    def turn(self) -> None:
        """One beat: a scheduling cycle, and once a second what runs too long."""
        result = run_cycle(self._services, self._keepers)
        if result.placed or result.stale:
            log.event(
                "cycle",
                pending=result.pending,
                placed=result.placed,
                stale=result.stale,
                ms=round(result.seconds * 1000, 1),
            )
        now = self._services.clock.monotonic()
        if now - self._limits_at >= _LIMITS_SECONDS:
            self._limits_at = now
            end_overdue(self._services, self._keepers)
            self._tend_credit()

    def _tend_credit(self) -> None:
        for container in self._credit.beat(self._services.clock.now(), self._warn):
            self._keepers.conclude(container)

    def _warn(self, container: Container, key: str, text: str) -> None:
        """Tell the user before credit stops a container: an event and a mail."""
        services = self._services
        workload = services.board.workloads[container.workload_id]
        now, label = services.clock.now(), workload_label(workload)
        happening = Happening(
            workload_id=container.workload_id,
            at=now,
            replica=container.replica,
            kind="credit",
            text=text,
        )
        letter = Letter(
            to=workload.submitter.user,
            subject=f"[dorabatch] {label}: credit runs out",
            text=f"{label}, container {container.replica}:\n{text}\n",
        )

        def write(tx: Tx) -> None:
            store.insert_events(tx, [happening])
            services.outbox.enqueue(tx, key, letter, now=now)

        services.writer.do(write)

    def _patience(self) -> float:
        """Seconds to the next beat when nothing happens: back-offs and limits end."""
        longest = self._services.settings.cycle.interval_seconds_max
        return min(longest, _LIMITS_SECONDS)
