"""Asks that make no sense or can never be met, from the submission to the plan."""

import pytest

from dorabatch.daemon.cycle.assembly import cycle_of
from dorabatch.daemon.cycle.waiting_reason import waiting_reason
from dorabatch.errors import DorabatchError, Refused
from dorabatch.placer.plan.no_room import NoRoomMemory
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from tests.makers import V100, document, facts, gpus, node_settings
from tests.oracles.placer_cases import make_cluster, make_requests
from tests.unit.daemon.conftest import caller


class Quiet:
    """Keepers that launch nothing."""

    def launch(self, one):
        """Leave it placed."""


@pytest.fixture
def site(parts):
    """n1 with four V100; n2 without any GPU."""
    for name, count in (("n1", 4), ("n2", 0)):
        parts.books.fleet.put(node_settings(name))
        known = facts(hostname=name, gpus=gpus(count))
        parts.books.fleet.seen(name, parts.clock.now(), known)
    return parts


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gpus": "1", "nodes": ["n2"]}, "none of the nodes it may use has a GPU"),
        ({"gpu_models": ["H100"]}, rf"no node has GPU model 'H100' \(.*{V100}"),
        ({"gpus": "5"}, "can never run here: needs 5 x .* n1, has 4"),
        ({"cpus": "9"}, "can never run here: needs 9 CPUs; .* node, n1, has 8$"),
        ({"gpus": "1", "cpus": "9"}, "needs 9 CPUs beside 1 x GPU .* n1, has 8$"),
        ({"cpus": "1", "memory": "17Gi"}, "can never run here: .* has 16384 MiB"),
        ({"gpus": "1", "nodes": ["n3"]}, r"no node 'n3' \(known: n1, n2\)"),
    ],
)  # fmt: skip
def test_what_can_never_run_is_refused_at_submission(site, options, words):
    with pytest.raises(Refused, match=words):
        site.intake.admit(caller(), document(**options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gpu_models": ["A100"]}, "n3 could run it but takes no workloads with GPUs"),
        ({"gpus": "1", "nodes": ["n3"]}, "n3 could run it but takes no workloads"),
        ({"gpus": "1", "nodes": ["n2", "n3"]}, "n3 could run it but takes no"),
        ({"gpu_models": [V100], "nodes": ["n2", "n3"]}, r"none of .* have: A100\)"),
    ],
)  # fmt: skip
def test_a_node_that_takes_no_such_workloads_is_named(site, options, words):
    site.books.fleet.put(node_settings("n3", allows_gpu=False))
    known = facts(hostname="n3", gpus=gpus(2, "A100", "A"))
    site.books.fleet.seen("n3", site.clock.now(), known)
    with pytest.raises(Refused, match=words):
        site.intake.admit(caller(), document(**options))


@pytest.mark.parametrize(
    "options",
    [
        {"gpus": "0"}, {"gpus": "-1"}, {"cpus": "0"}, {"cpus": "-2"}, {"cpus": "0m"},
        {"cpus": "1", "memory": "0"}, {"cpus": "1", "memory": "-1Gi"},
        {"gpu_share": "0"}, {"gpu_share": "-0.5"}, {"gpu_share": "1"},
        {"gpu_share": "0.5", "gpus": "2"}, {"cpus": "1", "replicas": "-1"},
    ],
)  # fmt: skip
def test_zero_and_negative_amounts_are_refused(options):
    with pytest.raises(DorabatchError) as caught:
        document(**options)
    assert "--" in caught.value.message


def test_a_named_node_that_was_never_seen_is_waited_for(site):
    site.books.fleet.put(node_settings("n9"))
    wanted = document(gpus="8", nodes=["n9"])
    new, _ = site.intake.admit(caller(), wanted)
    assert new.replicas == 1


def test_what_can_run_no_more_says_so_and_blocks_nobody(site):
    big = site.submit("big", options={"gpus": "4", "nice": -100}).workload_id
    site.books.fleet.seen("n1", site.clock.now(), facts(hostname="n1", gpus=gpus(2)))
    small = site.submit("small", options={"gpus": "1"}).workload_id
    site.clock.advance(0.01)
    result = cycle_of(site.books, site.effects, Quiet()).run()
    assert result.placed == 1
    assert site.container(small).hold is not None
    code, sentence = waiting_reason(site.books.latest.last, site.container(big))
    assert code == "Gpus"
    assert sentence.startswith("can never run here")
    assert site.books.latest.last.plan.reservations == ()


def test_a_queue_beyond_the_bound_gets_its_turn_in_later_cycles():
    cluster, memory = make_cluster([(8000, 8192, (4, 0, 0))] * 12), NoRoomMemory()
    # Forty that cannot run ahead of one that can; ten are looked at in a cycle.
    rows = [{"gpus": 4, "cpu": 9000 + at, "key": at} for at in range(40)]
    requests = make_requests([*rows, {"gpus": 1, "key": 99}])
    policy = PlacementPolicy(requests_max=10)
    left = []
    for _ in range(5):
        plan = memory.place(requests, cluster, policy, None)
        left.append(len(plan.left))
        if plan.placements:
            break
    assert left == [31, 21, 11, 1, 0]
    assert [placement.key for placement in plan.placements] == [99]
    assert len(plan.waiting) == 40
