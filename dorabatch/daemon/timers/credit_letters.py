"""Tells users that credit is about to stop what they run: an event and a mail.

Writes what it is told to say; decides neither when nor what.
"""

from dataclasses import dataclass

from dorabatch.clock import Clock
from dorabatch.daemon.state.outbox import Letter, Outbox
from dorabatch.daemon.views.summary import workload_label
from dorabatch.db import Tx, Writer
from dorabatch.queue import store
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, Happening


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditLetters:
    """Writes to users of one zone about their credit."""

    board: Board
    outbox: Outbox
    writer: Writer
    clock: Clock

    def warn(self, container: Container, key: str, text: str) -> None:
        """Say `text` of a container, by mail once for each key."""
        workload = self.board.workloads[container.workload_id]
        now, label = self.clock.now(), workload_label(workload)
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
            self.outbox.enqueue(tx, key, letter, now=now)

        self.writer.do(write)
