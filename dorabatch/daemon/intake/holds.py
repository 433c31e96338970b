"""Holds: somebody wants that nothing of a workload starts until it is released.

Writes the hold and the event that tells of it. What runs is never touched; what would
start anew waits with the rest.
"""

import threading
from dataclasses import dataclass, replace

from dorabatch.clock import Clock
from dorabatch.daemon.views.summary import workload_label
from dorabatch.db import Tx, Writer
from dorabatch.errors import AlreadyFinished, ConflictError, NotAllowed, NotFound
from dorabatch.queue import store
from dorabatch.queue.records import Happening, StartHold, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """Holds workloads and releases them; who may ask is for the caller to check."""

    writer: Writer
    clock: Clock
    cycle_wanted: threading.Event

    def hold(self, caller_name: str, workload: Workload, reason: str = "") -> Workload:
        """Hold a live workload; as it stands then."""
        hold = StartHold(by=caller_name, reason=reason)

        def write(tx: Tx) -> Workload:
            found = _live(tx, workload)
            if found.start_hold is not None:
                raise ConflictError(
                    f"workload {workload_label(found)} is {found.start_hold.words} "
                    "already; release it first"
                )
            return self._save(tx, replace(found, start_hold=hold), "hold", hold.words)

        return self._done(self.writer.do(write))

    def release(
        self, caller_name: str, workload: Workload, *, of_all: bool = False
    ) -> Workload:
        """Let a held workload start again: whoever holds it, or who may for all."""

        def write(tx: Tx) -> Workload:
            found = _live(tx, workload)
            hold = found.start_hold
            if hold is None:
                raise ConflictError(f"workload {workload_label(found)} is not held")
            if hold.by != caller_name and not of_all:
                raise NotAllowed(
                    f"workload {workload_label(found)} is {hold.words}; {hold.by} or "
                    "an admin releases it"
                )
            text = f"released by {caller_name}"
            return self._save(tx, replace(found, start_hold=None), "release", text)

        return self._done(self.writer.do(write))

    def _save(self, tx: Tx, after: Workload, kind: str, text: str) -> Workload:
        store.save_workload(tx, after)
        event = Happening(
            workload_id=after.workload_id,
            at=self.clock.now(),
            replica=None,
            kind=kind,
            text=text,
        )
        store.insert_events(tx, [event])
        return after

    def _done(self, after: Workload) -> Workload:
        self.cycle_wanted.set()
        return after


def _live(tx: Tx, workload: Workload) -> Workload:
    """The workload as this transaction sees it; raises when it has ended."""
    found = store.get_workload(tx, workload.workload_id)
    if found is None:
        raise NotFound(f"no workload {workload_label(workload)}")
    if found.ended_at is not None:
        raise AlreadyFinished(f"workload {workload_label(found)} has ended already")
    return found
