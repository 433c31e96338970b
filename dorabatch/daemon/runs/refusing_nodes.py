"""Nodes that refuse starts: when one is put aside, tried again, and taken back.

A node that refused several workloads, with no start in between that succeeded, takes
nothing new: it is tried by one start at a time after a growing wait. That is on record,
so a restart forgets none. Judges no refusal, and starts and places nothing.
"""

import threading
from dataclasses import replace
from datetime import datetime, timedelta

from dorabatch import log
from dorabatch.clock import Clock
from dorabatch.config import Settings
from dorabatch.daemon.state.avoided_nodes import DOUBLINGS_MAX
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import Refusal
from dorabatch.daemon.state.object_store import forget_refusal, save_refusal
from dorabatch.daemon.state.outbox import Letter, Outbox
from dorabatch.db import Tx, Writer
from dorabatch.queue.records import Container


class RefusingNodes:
    """Those of one zone.

    `suspects` has each node that refused a start since the last one that succeeded,
    with the workloads and whether they had GPUs. Written by the nodes' workers and by
    who takes a node back, under a lock.
    """

    def __init__(
        self,
        fleet: Fleet,
        outbox: Outbox,
        writer: Writer,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._fleet = fleet
        self._outbox = outbox
        self._writer = writer
        self._clock = clock
        self._settings = settings
        self._lock = threading.Lock()
        self.suspects: dict[str, dict[int, bool]] = {}

    def know(self, node: str, refusal: Refusal) -> None:
        """A node was put aside before this daemon began."""
        self._fleet.refuses(node, refusal)
        self.suspects.setdefault(node, {})

    def suspects_for(self, container: Container) -> bool:
        """Whether its node is suspected for its workload already."""
        node = container.hold.node if container.hold else ""
        with self._lock:
            return container.workload_id in self.suspects.get(node, {})

    def refused(self, container: Container, reason: str) -> None:
        """A node refused a start, for a reason of its own."""
        hold, now = container.hold, self._clock.now()
        if hold is None:
            return
        with self._lock:
            view = self._fleet.get(hold.node)
            if view is None:
                return
            workloads = self.suspects.setdefault(hold.node, {})
            workloads[container.workload_id] = bool(hold.gpus)
            found = view.refusal
            if found is None and len(workloads) >= self._settings.node.refusals_max:
                self._put_aside(hold.node, reason, all(workloads.values()), now)
            elif found is not None and found.try_at <= now:
                tries = found.tries + 1
                at = self._try_at(now, tries)
                self._save(
                    hold.node,
                    replace(found, reason=reason, tries=tries, try_at=at),
                )

    def started(self, container: Container) -> bool:
        """A start succeeded; whether its node is taken back by this.

        One without GPUs says nothing of the GPUs' part of a node.
        """
        hold = container.hold
        if hold is None or hold.node not in self.suspects:
            return False
        has_gpus = bool(hold.gpus)
        with self._lock:
            workloads = self.suspects.get(hold.node, {})
            stay = [] if has_gpus else [key for key, gpu in workloads.items() if gpu]
            left = dict.fromkeys(stay, True)
            self.suspects[hold.node] = left
            view = self._fleet.get(hold.node)
            refusal = view.refusal if view else None
            if refusal is not None and refusal.with_gpus and not has_gpus:
                return False
            if not left:
                del self.suspects[hold.node]
            return refusal is not None and self._take_back(hold.node, "a start")

    def take_back(self, node: str, why: str) -> bool:
        """Use a node again at once; whether it had been put aside."""
        with self._lock:
            self.suspects.pop(node, None)
            view = self._fleet.get(node)
            is_aside = view is not None and view.refusal is not None
            return is_aside and self._take_back(node, why)

    def forget(self, node: str) -> None:
        """A node was removed."""
        with self._lock:
            self.suspects.pop(node, None)

    def _put_aside(
        self, node: str, reason: str, with_gpus: bool, now: datetime
    ) -> None:
        refusal = Refusal(
            since=now,
            reason=reason,
            tries=0,
            try_at=self._try_at(now, 0),
            with_gpus=with_gpus,
        )
        self._save(node, refusal, is_new=True)
        log.warning("node-refuses-starts", node=node, reason=reason)

    def _save(self, node: str, refusal: Refusal, *, is_new: bool = False) -> None:
        kept = replace(refusal, is_offered=False)

        def write(tx: Tx) -> None:
            save_refusal(tx, self._settings.zone, node, kept)
            if is_new:
                self._tell(tx, node, kept)

        self._writer.do(write)
        self._fleet.refuses(node, kept)

    def _take_back(self, node: str, why: str) -> bool:
        self._writer.do(lambda tx: forget_refusal(tx, self._settings.zone, node))
        self._fleet.refuses(node, None)
        log.event("node-takes-starts", node=node, why=why)
        return True

    def _tell(self, tx: Tx, node: str, refusal: Refusal) -> None:
        """Mail to the administrators."""
        settings = self._settings
        for admin in settings.mail.admins or settings.admins:
            letter = Letter(
                to=admin,
                subject=f"[dorabatch] node {node} refuses starts",
                text=f"zone: {settings.zone}\nnode {node} {refusal.words}\n",
            )
            key = f"refuses:{settings.zone}:{node}:{refusal.since.timestamp()}:{admin}"
            self._outbox.enqueue(tx, key, letter, now=refusal.since)

    def _try_at(self, now: datetime, tries: int) -> datetime:
        first = self._settings.node.refusing_retry_seconds
        return now + timedelta(seconds=first * 2 ** min(tries, DOUBLINGS_MAX))
