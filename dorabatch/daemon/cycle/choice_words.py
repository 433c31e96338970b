"""Why a node was chosen, kept with the history of its run and told in words.

Turns a Choice into the text of an event and back into a sentence and a table; decides
nothing.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dorabatch.placer.explain.why_here import NodeChoice, Terms

EVENT_KIND = "choice"
_TERMS = (
    ("gpus_stranded", "GPUs left without CPUs or memory"),
    ("opens_node", "starts an empty node"),
    ("gpus_left", "GPUs left free"),
    ("cpus_left", "CPUs left"),
    ("memory_left_mib", "MiB left"),
)


def choice_text(choice: NodeChoice, names: Sequence[str], attempt: int) -> str:
    """The event's text: one line of JSON."""
    runner_up = choice.runner_up
    return json.dumps(
        {
            "attempt": attempt,
            "candidates": choice.candidates,
            "chosen": _record(choice.chosen, names),
            "runner_up": _record(runner_up, names) if runner_up else None,
        }
    )


def _record(terms: Terms, names: Sequence[str]) -> dict[str, Any]:
    return {
        "node": names[terms.node],
        "gpus_left": terms.gpus_left,
        "gpus_stranded": terms.gpus_stranded,
        "cpus_left": terms.cpu_left_milli / 1000,
        "memory_left_mib": terms.memory_left_mib,
        "opens_node": terms.opens_node,
    }


def read_choice(text: str) -> dict[str, Any]:
    """The record that `choice_text` wrote."""
    record: dict[str, Any] = json.loads(text)
    return record


def choice_sentence(record: Mapping[str, Any]) -> str:
    """One line for a history."""
    chosen, runner_up = record["chosen"], record["runner_up"]
    where = f"attempt {record['attempt']}: {chosen['node']}"
    if runner_up is None:
        return f"{where} was the only node with room"
    others = record["candidates"] - 1
    many = "one other node" if others == 1 else f"{others} other nodes"
    return f"{where}, with room on {many}; next best {runner_up['node']}"


def choice_table(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Heading and lines: term, chosen node, runner-up."""
    shown = [record["chosen"]]
    if record["runner_up"] is not None:
        shown.append(record["runner_up"])
    heads = ("TERM", *(one["node"] for one in shown))
    return [
        heads,
        *((label, *(_cell(one[key]) for one in shown)) for key, label in _TERMS),
    ]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
