"""GPUs that a node does not tell of: missing for now, or gone."""

from dataclasses import replace

import pytest

from dorabatch.daemon.state.facts_json import facts_from_json, facts_to_json
from dorabatch.daemon.state.node_view import gpu_trouble, with_missing, with_others_use
from dorabatch.node.facts import NodeFacts
from tests.makers import facts, gpus

BROKEN = "NVML does not start: Driver/library version mismatch"


def missing(now: NodeFacts, before: NodeFacts) -> list[str]:
    """The GPUs that count as missing."""
    return [gpu.uuid for gpu in with_missing(before, now).missing_gpus]


@pytest.mark.parametrize(
    "now",
    [
        facts(gpus=(), gpu_error=BROKEN),
        facts(gpus=(), probe="none"),
        facts(gpus=(), gpu_error=BROKEN, boot_id="boot-2"),
        facts(gpus=(), probe="none", boot_id="boot-2"),
        facts(gpus=()),
    ],
)
def test_what_is_broken_is_not_gone(now: NodeFacts) -> None:
    assert missing(now, facts()) == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]
    again = with_missing(with_missing(facts(), now), now)
    assert len(again.missing_gpus) == 4
    assert with_missing(again, facts()) == facts()


def test_one_of_four() -> None:
    left = (gpus(4)[0], *gpus(4)[2:])
    now = facts(gpus=left, gpu_error="GPU 1: lost")
    found = with_missing(facts(), now)
    assert [gpu.uuid for gpu in found.missing_gpus] == ["GPU-1"]
    assert gpu_trouble(found) == "1 of its 4 GPUs is missing: GPU 1: lost"


def test_after_another_boot_without_any_error_a_gpu_was_taken_out() -> None:
    assert missing(facts(gpus=gpus(3), boot_id="boot-2"), facts()) == []
    assert with_missing(None, facts(gpus=())).missing_gpus == ()


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (facts(), ""),
        (facts(gpus=(), gpu_error=BROKEN), BROKEN),
        (with_missing(facts(), facts(gpus=(), gpu_error=BROKEN)), BROKEN),
        (with_missing(facts(), facts(gpus=(), probe="none")), "no NVML library"),
        (with_missing(facts(), facts(gpus=())), "4 of its 4 GPUs are missing"),
    ],
)
def test_the_trouble_in_words(now: NodeFacts, words: str) -> None:
    trouble = gpu_trouble(now)
    assert words in trouble
    assert bool(trouble) == bool(words)


def test_what_is_missing_is_kept_as_text_and_what_is_of_the_moment_is_not() -> None:
    busy = replace(gpus(1)[0], process_pids=(7,), memory_used_mib=9)
    found = with_missing(facts(gpus=(busy,)), facts(gpus=(), gpu_error=BROKEN))
    assert facts_from_json(facts_to_json(found)) == replace(found)
    assert found.missing_gpus == gpus(1)
    marked = with_others_use(facts(gpus=(busy,)), frozenset())
    assert not facts_from_json(facts_to_json(marked)).gpus[0].is_used_by_others


def test_a_busy_gpu_that_none_of_ours_held_is_used_by_others() -> None:
    busy = tuple(replace(gpu, process_pids=(7,)) for gpu in gpus(2))
    found = with_others_use(facts(gpus=(*busy, gpus(3)[2])), frozenset({"GPU-0"}))
    assert [gpu.is_used_by_others for gpu in found.gpus] == [False, True, False]
