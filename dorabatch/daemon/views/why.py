"""`dstat --why`: why a workload waits, or why it is where it is.

Reads the latest plan, what is free now and the history; plans nothing itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dorabatch.daemon.cycle.lane_trials import LANE
from dorabatch.daemon.cycle.plan_words import (
    EVENT_KIND,
    choice_sentence,
    choice_table,
    read_choice,
)
from dorabatch.daemon.cycle.waiting_reason import waiting_reason
from dorabatch.daemon.state.image_fetches import ImageFetches
from dorabatch.daemon.state.last_plan import LastPlan, LatestPlan
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.daemon.views.node_answers import NodeAnswers
from dorabatch.daemon.views.outlook import Outlook, condition_lines
from dorabatch.daemon.views.silence import NODE_SILENT, Silences, silence
from dorabatch.daemon.views.summary import (
    WorkloadFinder,
    place_words,
    summarize_containers,
    workload_label,
)
from dorabatch.daemon.views.table_layout import Row, lay_out
from dorabatch.queue.records import WHOLE_GPU_MILLI, Container, Workload
from dorabatch.queue.states import State

NODES_SHOWN_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why the workloads of one zone are where they are."""

    finder: WorkloadFinder
    answers: NodeAnswers
    outlook: Outlook
    latest: LatestPlan
    fetches: ImageFetches
    silences: Silences

    def record(self, workload: Workload) -> Row:
        """Everything that is known about a workload's place, as data."""
        containers = self.finder.containers_of(workload)
        summary = summarize_containers(containers)
        last = self.latest.last
        waiting = [c for c in containers if c.state is State.QUEUED]
        record: Row = {
            "id": workload.workload_id,
            "name": workload.name,
            "workspace": workload.workspace,
            "state": str(summary.state),
            "waiting": len(waiting),
            "reason": "",
            "sentence": "",
            "remedy": "",
            "dependency": self.outlook.conditions(workload),
            "counts": {},
            "nodes": [],
            "containers": self._containers(workload, containers),
        }
        if waiting:
            first = waiting[0]
            record["reason"], record["sentence"] = waiting_reason(last, first)
            record["counts"] = _counts(last, first)
            remedy, record["nodes"] = self.answers.of(first)
            is_gated = first.container_id in last.waits
            if not is_gated and record["reason"] != LANE:
                record["remedy"] = remedy
        elif silence(last, containers):
            record["reason"] = NODE_SILENT
            record["sentence"] = self.silences.sentence(workload, containers)
        else:
            image = spec_of(workload).image.image
            reasons = [self._live_reason(c, image) for c in containers]
            reasons = [reason for reason in reasons if reason]
            record["sentence"] = reasons[0] if reasons else ""
        return record

    def text(self, workload: Workload, *, has_placement: bool) -> str:
        """A sentence or two and the count of each reason; else each node's."""
        record = self.record(workload)
        lines = [_headline(workload, record)]
        if record["waiting"] and not has_placement:
            lines += [
                f"  {reason}: refuses {count} node{'' if count == 1 else 's'}"
                for reason, count in record["counts"].items()
            ]
        if record["waiting"]:
            lines += condition_lines(record["dependency"])
        text = "\n".join(lines) + "\n"
        if has_placement:
            text += _placed_text(record["containers"]) + _nodes_text(record["nodes"])
        if record["waiting"]:
            lines = self.outlook.lines(workload)
            text += "".join(f"{line}\n" for line in lines)
        return text

    def _live_reason(self, container: Container, image: str) -> str:
        last, hold = self.latest.last, container.hold
        is_to_start = container.state in (State.PLACED, State.STARTING)
        if is_to_start and hold is not None and hold.node not in last.silent:
            fetching = self.fetches.words(hold.node, image)
            if fetching:
                return fetching
        return place_words(last, container)

    def _containers(
        self, workload: Workload, containers: Sequence[Container]
    ) -> list[Row]:
        """Each container's place, with the terms of its present attempt's choice."""
        chosen, image = {}, spec_of(workload).image.image
        for event in self.finder.events_of(workload):
            if event.kind == EVENT_KIND:
                found = read_choice(event.text)
                chosen[event.replica, found["attempt"]] = found
        return [
            {
                "name": f"{workload.name}.{one.replica}",
                "state": str(one.state),
                "attempt": one.attempt,
                "node": one.hold.node if one.hold else None,
                "gpu_models": list(one.hold.gpu_models) if one.hold else [],
                "gpu_milli": one.hold.gpu_milli if one.hold and one.hold.gpus else None,
                "reason": self._live_reason(one, image),
                "choice": chosen.get((one.replica, one.attempt)) if one.hold else None,
            }
            for one in containers
        ]


def _headline(workload: Workload, record: Row) -> str:
    label, sentence = workload_label(workload), record["sentence"]
    if record["reason"] == NODE_SILENT:
        return f"{label}: {sentence}"
    if not record["waiting"]:
        return f"{label} is {record['state']}" + (f": {sentence}" if sentence else "")
    remedy = f". {record['remedy']}" if record["remedy"] else ""
    total = len(record["containers"])
    if total == 1:
        return f"{label} waits: {sentence}{remedy}"
    waits = f"{record['waiting']} of {total} containers wait"
    return f"{label}: {waits}: {sentence}{remedy}"


def _counts(last: LastPlan, container: Container) -> dict[str, int]:
    index = last.plan.waiting.get(container.container_id) if last.plan else None
    if last.plan is None or index is None:
        return {}
    return last.plan.explanations[index].counts


def _placed_text(containers: Sequence[Row]) -> str:
    text = ""
    for one in containers:
        if one["node"] is None:
            continue
        milli = one["gpu_milli"] or WHOLE_GPU_MILLI
        part = "" if milli == WHOLE_GPU_MILLI else f"{milli / WHOLE_GPU_MILLI:g} of "
        models = part + (", ".join(one["gpu_models"]) or "no GPU")
        text += f"  {one['name']}: {one['state']} on {one['node']} ({models})\n"
        if one["choice"] is not None:
            text += f"  {choice_sentence(one['choice'])}\n"
            heads, *lines = choice_table(one["choice"])
            text += _indented(lay_out(lines, heads))
    return text


def _nodes_text(nodes: Sequence[Row]) -> str:
    """The nodes as a table."""
    if not nodes:
        return ""
    heads = ("NODE", "REASON", "GPUS", "CPUS", "MEM_MIB", "DETAIL")
    lines: list[tuple[str, ...]] = [
        (
            one["node"],
            one["reason"] or "(fits)",
            f"{one['gpus_free']:g}/{one['gpus_needed']:g}",
            f"{one['cpu_milli_free'] / 1000:g}/{one['cpu_milli_needed'] / 1000:g}",
            f"{one['memory_mib_free']}/{one['memory_mib_needed']}",
            one["detail"],
        )
        for one in nodes[:NODES_SHOWN_MAX]
    ]
    more = len(nodes) - len(lines)
    rest = f"  and {more} more nodes; --json lists them all\n" if more else ""
    return "  free/needed on each node:\n" + _indented(lay_out(lines, heads)) + rest


def _indented(text: str) -> str:
    return "".join(f"    {line.rstrip()}\n" for line in text.splitlines())
