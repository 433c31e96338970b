"""What a what-if plays: a site's nodes, policy and past work, as values.

Pure: values only, and their way through JSON to the process that plays them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dorabatch.daemon.state.facts_json import facts_from_json
from dorabatch.daemon.state.node_view import DeclaredNode
from dorabatch.fairshare.turn.account_tree import Account

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastJob:
    """One container of the history; moments in microseconds since 1970.

    `workload` is the same number for what was submitted together, `spec` the number of
    its text. What is not counted only takes its place: it ran when the history begins,
    or runs still. Its last run counts, from `started_us` to `ended_us`.
    """

    workload: int
    replica: int
    user: str
    workspace: str
    spec: int
    submitted_us: int
    started_us: int
    ended_us: int
    outcome: str = "done"
    is_counted: bool = True

    @property
    def run_us(self) -> int:
        """How long it ran."""
        return max(1_000_000, self.ended_us - self.started_us)

    @property
    def waited_us(self) -> int:
        """How long it waited for its last start."""
        return self.started_us - self.submitted_us


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRun:
    """A run that was over when the history begins: for guesses and for use."""

    user: str
    spec: int
    gpu_models: tuple[str, ...]
    started_us: int
    ended_us: int
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PastNode:
    """A node as it is now; `facts` is the text that `facts_json` writes."""

    settings: DeclaredNode
    facts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedAt:
    """A row of the price list."""

    zone: str
    model: str
    per_hour: int
    valid_from_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatifQuestion:
    """What to play, from `start_us` on.

    `specs` are the texts that jobs name, `settings` the daemon's own that a play needs,
    `people` the declared users' specs, `then` and `now` policy settings by key;
    `left_out` jobs beside these fit none of the nodes.
    """

    zone: str
    start_us: int
    jobs: tuple[PastJob, ...]
    earlier: tuple[EarlierRun, ...]
    specs: tuple[str, ...]
    nodes: tuple[PastNode, ...]
    accounts: tuple[Account, ...]
    people: Mapping[str, str]
    prices: tuple[PricedAt, ...]
    settings: Mapping[str, Any]
    then: Mapping[str, str]
    now: Mapping[str, str]
    shakes: int
    left_out: int = 0

    @property
    def users(self) -> list[str]:
        """Whose jobs count."""
        return sorted({job.user for job in self.jobs if job.is_counted})

    @property
    def close_us(self) -> int:
        """The last submission that counts."""
        return max(job.submitted_us for job in self.jobs if job.is_counted)

    @property
    def gpus(self) -> int:
        """GPUs of the nodes that are used."""
        return sum(
            len(facts_from_json(node.facts).gpus)
            for node in self.nodes
            if not node.settings.scheduling_disabled and node.settings.allows_gpu
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of a play, one row a job of the question.

    start_s, wait_s  since the history's beginning, and since submission; of the last
                     start, nan where it never came
    cost             credits up to the last submission
    short_s[user]    when credit first kept something waiting or let it run free
    """

    start_s: FloatArray
    wait_s: FloatArray
    cost: FloatArray
    short_s: Mapping[str, float]
    cycles: int


def record_of(question: WhatifQuestion) -> dict[str, Any]:
    """The question as plain values for JSON."""
    return asdict(question)


def question_of(record: Mapping[str, Any]) -> WhatifQuestion:
    """The question that `record_of` took apart."""
    left = dict(record)
    earlier = [
        EarlierRun(**{**one, "gpu_models": tuple(one["gpu_models"])})
        for one in left.pop("earlier")
    ]
    nodes = [
        PastNode(settings=DeclaredNode(**one["settings"]), facts=one["facts"])
        for one in left.pop("nodes")
    ]
    return WhatifQuestion(
        jobs=tuple(PastJob(**one) for one in left.pop("jobs")),
        earlier=tuple(earlier),
        specs=tuple(left.pop("specs")),
        nodes=tuple(nodes),
        accounts=tuple(Account(**one) for one in left.pop("accounts")),
        prices=tuple(PricedAt(**one) for one in left.pop("prices")),
        **left,
    )
