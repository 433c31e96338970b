"""The daemon's life: start the parts in order, beat, stop them in reverse.

The one place where an unexpected error is caught: it is logged with its trace, and
the beat goes on or, for a broken invariant, the daemon ends. Holds no rule.
"""

import threading

from starlette.types import ASGIApp

from dorabatch import log
from dorabatch.daemon.api.server import ApiServer
from dorabatch.daemon.assembly import DaemonParts
from dorabatch.errors import DorabatchError, InvariantError

_LIMITS_SECONDS = 1.0


class Daemon:
    """All threads of one dorad; without an `app` nothing is served."""

    def __init__(self, parts: DaemonParts, app: ASGIApp | None = None) -> None:
        self.parts = parts
        self._app = app
        self._server: ApiServer | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="cycle", daemon=True)
        self._limits_at = 0.0

    def load(self) -> None:
        """Begin to look after the nodes that are declared."""
        self.parts.intake.nodes.load()

    def start(self) -> None:
        """Begin to serve."""
        parts, settings = self.parts, self.parts.books.settings
        if self._app is not None:
            self._server = ApiServer(self._app, settings)
        self.load()
        self._thread.start()
        parts.timers.forecaster.start()
        if self._server is not None:
            self._server.start()
        parts.timers.mail_sender.start()
        log.event(
            "ready",
            socket=settings.socket,
            zone=settings.zone,
            epoch=parts.effects.identity.epoch,
            nodes=len(parts.books.fleet.views()),
        )

    def run_until(self, stop: threading.Event) -> None:
        """Serve until the event is set or the daemon cannot go on."""
        writer = self.parts.effects.writer
        while not stop.wait(0.5):
            if writer.failed is not None:
                raise InvariantError(str(writer.failed))
            if not self._thread.is_alive():
                raise InvariantError("the scheduling thread has ended")

    def stop(self) -> None:
        """Answer what was asked, let go of the nodes; containers go on."""
        parts = self.parts
        self._stopping.set()
        parts.effects.cycle_wanted.set()
        if self._server is not None:
            self._server.stop()
        if self._thread.is_alive():
            self._thread.join(10.0)
        parts.timers.forecaster.stop()
        parts.keepers.stop()
        parts.timers.mail_sender.stop()
        parts.effects.writer.stop()
        parts.effects.engine.dispose()

    def turn(self) -> None:
        """One beat: a scheduling cycle, and once a second what is due by itself."""
        parts = self.parts
        result = parts.cycle.run()
        if result.placed or result.stale:
            log.event(
                "cycle",
                pending=result.pending,
                placed=result.placed,
                stale=result.stale,
                ms=round(result.seconds * 1000, 1),
            )
        now = parts.effects.clock.monotonic()
        if now - self._limits_at >= _LIMITS_SECONDS:
            self._limits_at = now
            parts.timers.time_limits.end_overdue()
            self._tend_credit()

    def _beat(self) -> None:
        cycle, wanted = self.parts.books.settings.cycle, self.parts.effects.cycle_wanted
        # When nothing happens: back-offs and limits end.
        patience = min(cycle.interval_seconds_max, _LIMITS_SECONDS)
        while not self._stopping.is_set():
            wanted.clear()
            try:
                self.turn()
            except InvariantError:
                raise
            except DorabatchError as error:
                log.failure("cycle-failed", error)
            except Exception as error:
                log.failure("cycle-bug", error)
            self._stopping.wait(cycle.interval_seconds_min)
            wanted.wait(patience)

    def _tend_credit(self) -> None:
        timers, now = self.parts.timers, self.parts.effects.clock.now()
        for container in timers.credit_charges.beat(now, timers.credit_letters.warn):
            self.parts.keepers.conclude(container)
