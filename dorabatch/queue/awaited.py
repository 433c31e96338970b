"""What others wait for: whether a condition holds, may still hold, or never will.

Pure: goes by what has become of a workload; an attempt that is requeued is no end, and
what once held never ceases to.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from dorabatch.queue.records import Container, WorkloadId
from dorabatch.queue.states import Outcome, State, joint_outcome, joint_state
from dorabatch.resources.dependency import (
    AFTER,
    AFTERNOTOK,
    AFTEROK,
    Condition,
    Dependency,
)

_NAMED_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a whole workload ended."""

    outcome: Outcome
    exit_code: int | None = None

    @property
    def words(self) -> str:
        """`ended with exit code 1`."""
        if self.outcome is Outcome.FAILED and self.exit_code:
            return f"ended with exit code {self.exit_code}"
        return _ENDINGS[self.outcome]


_ENDINGS = {
    Outcome.DONE: "ended with success",
    Outcome.FAILED: "failed",
    Outcome.CANCELLED: "was cancelled",
    Outcome.TIMEOUT: "ran into its time limit",
    Outcome.NODE_LOST: "was lost with its node",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedFact:
    """What has become of a workload: whether any attempt ever ran, and its end."""

    workload_id: WorkloadId
    has_begun: bool = False
    ending: Ending | None = None

    def and_then(self, later: "AwaitedFact") -> "AwaitedFact":
        """Both together; what has happened stays so."""
        return AwaitedFact(
            workload_id=self.workload_id,
            has_begun=self.has_begun or later.has_begun,
            ending=self.ending or later.ending,
        )


class WaitVerdict(StrEnum):
    """Where a condition, or a whole dependency, stands."""

    HOLDS = "holds"
    WAITS = "waits"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """A verdict and, unless it holds, what it comes from; each is itself only."""

    verdict: WaitVerdict
    words: str = ""


_PASSED = Judged(verdict=WaitVerdict.HOLDS)


def ending_of(key: WorkloadId, containers: Iterable[Container]) -> AwaitedFact:
    """What has become of a workload whose last container, if any, has finished."""
    siblings = list(containers)
    shown = [one for one in siblings if not one.removed]
    codes = [one.exit_code for one in shown if one.exit_code is not None]
    outcome = joint_outcome(one.outcome for one in shown)
    return AwaitedFact(
        workload_id=key,
        has_begun=any(one.started_at for one in siblings),
        ending=Ending(outcome=outcome, exit_code=max(codes, default=None)),
    )


def state_words(containers: Iterable[Container]) -> str:
    """`it is running`, of a workload that has not ended."""
    state = joint_state(one.state for one in containers)
    return "it has not ended" if state is State.FINISHED else f"it is {state}"


def judge_condition(
    condition: Condition, fact: AwaitedFact, words: Callable[[], str]
) -> Judged:
    """Where one condition stands; `words()` tell the state of what has not ended."""
    kind, key, end = condition.type, fact.workload_id, fact.ending
    if kind == AFTER and fact.has_begun:
        return _PASSED
    if end is None:
        told = f"workload {key} ({kind}; {words()})"
        return Judged(verdict=WaitVerdict.WAITS, words=told)
    if kind == AFTER:
        told = f"workload {key} ended before it began and after asks for its start"
        return Judged(verdict=WaitVerdict.NEVER, words=told)
    is_ok = end.outcome is Outcome.DONE
    if (kind == AFTEROK and not is_ok) or (kind == AFTERNOTOK and is_ok):
        wish = "success" if kind == AFTEROK else "a failure"
        told = f"workload {key} {end.words} and {kind} asks for {wish}"
        return Judged(verdict=WaitVerdict.NEVER, words=told)
    return _PASSED


def judge_dependency(
    dependency: Dependency, judge: Callable[[Condition], Judged]
) -> Judged:
    """Where a whole dependency stands, with the sentence that is told of it."""
    found = [judge(one) for one in dependency.conditions]
    verdict = _joint(dependency.is_any, {one.verdict for one in found})
    said = [one.words for one in found if one.verdict is verdict]
    if verdict is WaitVerdict.HOLDS:
        return _PASSED
    if verdict is WaitVerdict.NEVER:
        return Judged(verdict=verdict, words=f"can never start: {_listed(said, '; ')}")
    told = _listed(said, " or " if dependency.is_any else ", ")
    return Judged(verdict=verdict, words=f"waits for {told}")


def _joint(is_any: bool, verdicts: set[WaitVerdict]) -> WaitVerdict:
    """One that holds is enough for any; one that never will is for all."""
    one, all_of = WaitVerdict.HOLDS, WaitVerdict.NEVER
    if not is_any:
        one, all_of = all_of, one
    if one in verdicts:
        return one
    return all_of if verdicts == {all_of} else WaitVerdict.WAITS


def _listed(said: list[str], divider: str) -> str:
    more = len(said) - _NAMED_MAX
    rest = f" and {more} more" if more > 0 else ""
    return divider.join(said[:_NAMED_MAX]) + rest
