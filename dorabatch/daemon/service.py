"""The daemon's life: start the parts in order, beat, stop them in reverse.

Ends itself when a thread without which nothing works is dead; what threads outlive
says `state/threads`. Holds no rule.
"""

import threading

from starlette.types import ASGIApp

from dorabatch import log
from dorabatch.daemon.api.server import ApiServer
from dorabatch.daemon.assembly import DaemonParts
from dorabatch.errors import InvariantError

_LIMITS_SECONDS = 1.0
_SIGHUP = "settings are read at start only; nothing changed"


class Daemon:
    """All threads of one dorad; without an `app` nothing is served."""

    def __init__(self, parts: DaemonParts, app: ASGIApp | None = None) -> None:
        self.parts = parts
        self._app = app
        self._server: ApiServer | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._limits_at = 0.0

    def load(self) -> None:
        """Begin to look after the nodes that are declared."""
        self.parts.intake.nodes.load(self.parts.books.board.nodes_in_use())

    def start(self) -> None:
        """Begin to serve."""
        parts, settings = self.parts, self.parts.books.settings
        threads, stopping = parts.effects.threads, self._stopping
        threads.watch(parts.effects.writer.thread, stopping, is_vital=True)
        if self._app is not None:
            self._server = ApiServer(self._app, settings)
            threads.watch(self._server.thread, stopping, is_vital=True)
        self.load()
        self._thread = threads.start("cycle", self._beat, stopping, is_vital=True)
        parts.timers.forecaster.start(threads)
        if self._server is not None:
            self._server.start()
        parts.timers.mail_sender.start(threads)
        log.event(
            "ready",
            socket=settings.socket,
            zone=settings.zone,
            epoch=parts.effects.identity.epoch,
            nodes=len(parts.books.fleet.views()),
        )

    def run_until(self, stop: threading.Event, hung_up: threading.Event) -> None:
        """Serve until `stop` is set or the daemon cannot go on.

        `hung_up` is answered in the log: there is nothing to read again.
        """
        effects = self.parts.effects
        while not stop.wait(0.5):
            effects.clock_steps.look(effects.clock)
            if hung_up.is_set():
                hung_up.clear()
                log.event("sighup", meaning=_SIGHUP)
            if effects.writer.failed is not None:
                raise InvariantError(str(effects.writer.failed))
            dead = effects.threads.dead_vital()
            if dead:
                raise InvariantError(f"the daemon's thread {dead[0]} has ended")

    def stop(self) -> None:
        """Answer what was asked, let go of the nodes; containers go on."""
        parts = self.parts
        self._stopping.set()
        parts.effects.cycle_wanted.set()
        if self._server is not None:
            self._server.stop()
        if self._thread is not None:
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
            parts.timers.silent_runs.end_overdue()
            self._tend_credit()

    def _beat(self) -> None:
        cycle, wanted = self.parts.books.settings.cycle, self.parts.effects.cycle_wanted
        # When nothing happens: back-offs and limits end.
        patience = min(cycle.interval_seconds_max, _LIMITS_SECONDS)
        wanted.clear()
        self.turn()
        self._stopping.wait(cycle.interval_seconds_min)
        wanted.wait(patience)

    def _tend_credit(self) -> None:
        timers, now = self.parts.timers, self.parts.effects.clock.now()
        for container in timers.credit_charges.beat(now, timers.credit_letters.warn):
            self.parts.keepers.conclude(container)
