"""The whole record of a workload or a node, as data and as text.

Reads memory and history; changes nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from dorabatch.clock import Clock
from dorabatch.daemon.cycle.plan_words import EVENT_KIND, choice_sentence, read_choice
from dorabatch.daemon.runs.settle import exit_words
from dorabatch.daemon.state.last_plan import LatestPlan
from dorabatch.daemon.views.cell_texts import duration
from dorabatch.daemon.views.container_rows import container_row
from dorabatch.daemon.views.credit_columns import CreditColumns
from dorabatch.daemon.views.last_places import LastPlaces
from dorabatch.daemon.views.summary import WorkloadFinder, summarize_containers
from dorabatch.daemon.views.table_layout import Row
from dorabatch.daemon.views.workload_rows import workload_row
from dorabatch.queue import history
from dorabatch.queue.records import (
    Container,
    Happening,
    Run,
    Workload,
    billed_seconds,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRecords:
    """Whole records of one zone's workloads."""

    finder: WorkloadFinder
    places: LastPlaces
    latest: LatestPlan
    engine: Engine
    clock: Clock
    credit: CreditColumns

    def record(self, workload: Workload) -> Row:
        """Row, spec, containers, attempts, versions and events of a workload."""
        now, last = self.clock.now(), self.latest.last
        containers = self.places.shown(self.finder.containers_of(workload))
        with self.engine.connect() as connection:
            events = history.events_of(connection, workload.workload_id)
            runs = history.runs_of(connection, [c.container_id for c in containers])
            versions = history.versions_of(connection, workload.workload_id)
        credit = self.credit.at(now)
        summary = summarize_containers(containers)
        return {
            **workload_row(last, workload, summary, now),
            **credit.of(containers),
            "spec": json.loads(workload.spec_json),
            "containers": [
                {**container_row(last, workload, c, now), **credit.of([c])}
                for c in containers
            ],
            "attempts": _attempts(containers, runs, now),
            "versions": [
                {"version": number, "at": at.isoformat(), "user": user}
                for number, at, user, _ in versions
            ],
            "events": [_event(one) for one in events],
        }


def _attempts(
    containers: Sequence[Container], runs: Sequence[Run], now: datetime
) -> list[Row]:
    replica_of = {c.container_id: c.replica for c in containers}
    return [
        {
            "replica": replica_of[run.container_id],
            "attempt": run.attempt,
            "node": run.hold.node,
            "gpus": list(run.hold.gpus),
            "placed_at": run.placed_at.isoformat(),
            "started_at": run.started_at.isoformat() if run.started_at else None,
            "ended_at": run.ended_at.isoformat() if run.ended_at else None,
            "seconds": billed_seconds(run, now),
            "exit_code": run.exit_code,
            "outcome": str(run.outcome) if run.outcome else None,
            "reason": run.reason,
        }
        for run in runs
    ]


def _event(event: Happening) -> Row:
    is_choice = event.kind == EVENT_KIND
    return {
        "at": event.at.isoformat(timespec="milliseconds"),
        "replica": event.replica,
        "kind": event.kind,
        "text": choice_sentence(read_choice(event.text)) if is_choice else event.text,
    }


def describe_workload(record: Row) -> str:
    """A workload's record for people."""
    lines = [
        f"Workload   {record['workspace']}/{record['name']}  (id {record['id']})",
        f"Zone       {record['zone']}",
        f"User       {record['user']}",
        f"State      {record['state']} ({record['code']})"
        + (f", {record['outcome']}" if record["outcome"] else ""),
        f"Submitted  {record['submitted_at']}",
    ]
    if record["restartable"]:
        lines.append("Restart    may be stopped and started anew")
    if record["dependency"]:
        lines.append(f"Depends on {record['dependency']}")
    if record["reason"]:
        lines.append(f"Reason     {record['reason']}")
    if record["paid_until"]:
        lines.append(f"Paid until {record['paid_until']}")
    if record["runs_free"]:
        lines.append("Credit     used up: runs on free and may be preempted")
    if record["cost"] is not None:
        lines.append(f"Cost       {record['cost']} so far")
    lines += ["", "Containers:"]
    for one in record["containers"]:
        where = f" on {one['node']}" if one["node"] else ""
        gpus = f", GPUs {', '.join(one['gpu_uuids'])}" if one["gpu_uuids"] else ""
        said = "".join(f", {w}" for w in exit_words(one["exit_code"], one["reason"]))
        lines.append(
            f"  {one['name']}: {one['state']}{where}, attempt {one['attempt']}, "
            f"{duration(one['seconds'])}{gpus}{said}"
        )
    lines += ["", "Spec:", _indented(record["spec"]), "", "Events:"]
    for event in record["events"]:
        replica = f" .{event['replica']}" if event["replica"] else ""
        lines.append(f"  {event['at']}  {event['kind']}{replica}: {event['text']}")
    return "\n".join(lines) + "\n"


def describe_object(record: dict[str, Any]) -> str:
    """Any record for people: keys and values, one a line."""
    width = max((len(key) for key in record), default=0)
    lines = []
    for key, value in record.items():
        shown = json.dumps(value) if isinstance(value, dict | list) else value
        lines.append(f"{key:<{width}}  {'-' if shown is None else shown}")
    return "\n".join(lines) + "\n"


def _indented(value: object) -> str:
    text = json.dumps(value, indent=2)
    return "\n".join(f"  {line}" for line in text.splitlines())
