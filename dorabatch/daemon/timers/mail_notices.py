"""What users who asked for it are told by mail: start, end, failure (notify.byEmail).

Looks at what a transaction changed, and puts the mails into the same transaction.
Decides nothing about workloads and sends nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dorabatch.daemon.state.outbox import Letter, Outbox
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.daemon.views.summary import summarize_containers
from dorabatch.db import Tx
from dorabatch.queue import store
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import AfterStop, Outcome, State

_LOST = frozenset({Outcome.NODE_LOST, Outcome.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One mail's contents; the same key is never sent twice."""

    key: str
    workload: Workload
    what: str
    lines: tuple[str, ...]


class Notifier:
    """Called with each transaction before it is committed."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def __call__(self, tx: Tx) -> None:
        """Put in the mails that the transaction's changes call for."""
        if not self._outbox.is_on:
            return
        for notice, at in _notices(tx, list(tx.changes)):
            workload = notice.workload
            label = f"{workload.workspace}/{workload.name}"
            letter = Letter(
                to=workload.submitter.user,
                subject=f"[dorabatch] {workload.workload_id} {label} {notice.what}",
                text=_text(notice),
            )
            self._outbox.enqueue(tx, notice.key, letter, now=at)


def _notices(tx: Tx, changes: list[object]) -> Iterable[tuple[Notice, datetime]]:
    for change in changes:
        if isinstance(change, Workload) and change.ended_at is not None:
            if spec_of(change).notify.by_email:
                containers = store.containers_of(tx, change.workload_id)
                yield ended(change, containers), change.ended_at
        elif isinstance(change, Container) and _is_news(change):
            workload = store.get_workload(tx, change.workload_id)
            if workload is None or not spec_of(workload).notify.by_email:
                continue
            if change.state is State.RUNNING and change.started_at is not None:
                yield started(workload, change), change.started_at
            elif change.ended_at is not None:
                yield interrupted(workload, change), change.ended_at


def _is_news(container: Container) -> bool:
    if container.state is State.RUNNING:
        return True
    return (
        container.state is State.STOPPING
        and container.after_stop is AfterStop.REQUEUE
        and container.outcome in _LOST
    )


def started(workload: Workload, container: Container) -> Notice:
    """The first container of this version runs."""
    hold = container.hold
    where = f" on {hold.node}" if hold else ""
    gpus = ", ".join(hold.gpu_models) if hold else ""
    return Notice(
        key=f"start:{workload.workload_id}:{workload.version}",
        workload=workload,
        what=f"started{where}",
        lines=(
            f"started: {_moment(container.started_at)}{where}",
            f"GPUs: {gpus or 'none'}",
        ),
    )


def interrupted(workload: Workload, container: Container) -> Notice:
    """An attempt was lost or could not start; another one follows."""
    number = f"{workload.workload_id}.{container.replica}"
    return Notice(
        key=f"retry:{number}:{container.attempt}",
        workload=workload,
        what="was interrupted and will run again",
        lines=(
            f"container {container.replica}, attempt {container.attempt}: "
            f"{container.reason}",
            f"ended: {_moment(container.ended_at)}; it waits for another attempt",
        ),
    )


def ended(workload: Workload, containers: list[Container]) -> Notice:
    """The whole workload is over."""
    shown = [one for one in containers if not one.removed] or containers
    summary = summarize_containers(shown)
    outcome = str(summary.outcome or Outcome.DONE).replace("_", " ")
    code = "" if summary.exit_code is None else f" (exit code {summary.exit_code})"
    reasons = [f"container {one.replica}: {one.reason}" for one in shown if one.reason]
    return Notice(
        key=f"end:{workload.workload_id}:{workload.version}",
        workload=workload,
        what=f"ended: {outcome}{code}",
        lines=(
            f"outcome: {outcome}{code}",
            *reasons[:10],
            f"started: {_moment(summary.started_at)}",
            f"ended: {_moment(workload.ended_at)}",
            f"output: dlog {workload.workload_id}",
        ),
    )


def _text(notice: Notice) -> str:
    workload = notice.workload
    head = (
        f"workload: {workload.workload_id} {workload.workspace}/{workload.name}",
        f"zone: {workload.zone}",
    )
    return "\n".join([*head, *notice.lines, ""])


def _moment(moment: datetime | None) -> str:
    return "never" if moment is None else moment.isoformat(timespec="seconds")
