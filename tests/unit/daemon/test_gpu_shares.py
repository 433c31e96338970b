"""Shares of one GPU: two on a device, never more than it has, whatever ends."""

import pytest

from dorabatch.config import Settings
from dorabatch.daemon.assembly import compose
from dorabatch.daemon.cycle import commit
from dorabatch.daemon.cycle.places import FreeDevices
from dorabatch.daemon.cycle.planner import take_times
from dorabatch.daemon.cycle.take_snapshot import take_snapshot
from dorabatch.daemon.intake.admission_checks import check_site_bounds
from dorabatch.daemon.runs.assembly import requests_of
from dorabatch.daemon.state.priced_items import hold_items
from dorabatch.daemon.state.spec_units import amounts
from dorabatch.daemon.views.container_rows import CONTAINER_CELLS, container_row
from dorabatch.daemon.views.node_rows import NODE_CELLS
from dorabatch.daemon.views.summary import summarize_containers
from dorabatch.daemon.views.workload_rows import WORKLOAD_CELLS, workload_row
from dorabatch.errors import Refused
from dorabatch.node.container_spec import job_env
from dorabatch.placer.arrays.types import SHARE, USED_UP
from dorabatch.queue import transitions as to
from dorabatch.queue.states import Outcome
from tests.checkers import broken_laws
from tests.makers import V100, demand, document, facts, gpus, hold, node_settings, view

TWO = facts(hostname="n1", gpus=gpus(2))


def turn(parts):
    parts.clock.advance(0.01)
    parts.books.fleet.put(node_settings("n1"))
    parts.books.fleet.seen("n1", parts.clock.now(), TWO)
    parts.cycle.run()
    board = parts.books.board
    assert broken_laws(list(board.containers.values()), {"n1": TWO}) == []


def share(parts, name, part, **more):
    options = {"gpu_share": part, "cpus": 1, "memory": "1Gi", **more}
    return parts.submit(name, options=options).workload_id


def whole(parts, name, count):
    options = {"gpus": str(count), "cpus": 1, "memory": "1Gi"}
    return parts.submit(name, options=options).workload_id


def held(parts, workload_id):
    one = parts.container(workload_id).hold
    return None if one is None else (one.gpus, one.gpu_milli)


def test_two_shares_have_one_device_and_leave_the_other_whole(parts):
    first, second = share(parts, "a", "0.5"), share(parts, "b", "0.5")
    turn(parts)
    assert held(parts, first) == held(parts, second) == (("GPU-0",), 500)
    other = whole(parts, "c", 1)
    turn(parts)
    third = share(parts, "d", "0.001")
    turn(parts)
    assert held(parts, other) == (("GPU-1",), 1000)
    assert held(parts, third) is None


def test_lists_show_the_part_and_not_a_whole_gpu(parts):
    ids = share(parts, "a", "0.5"), share(parts, "b", "0.25", gpu_models=[V100])
    ids += (whole(parts, "c", 1),)
    turn(parts)
    board, last, now = parts.books.board, parts.books.latest.last, parts.clock.now()
    asked, given = [], []
    for key in ids:
        one, workload = parts.container(key), board.workloads[key]
        row = workload_row(last, workload, summarize_containers([one]), now)
        asked.append(WORKLOAD_CELLS["gpus"][1](row))
        row = container_row(last, workload, one, now)
        given.append(CONTAINER_CELLS["gpus"][1](row))
    assert asked == ["0.5", f"0.25x{V100}", "1"]
    assert given == [f"0.5x{V100}", f"0.25x{V100}", V100]


def test_what_a_cycle_opened_the_next_one_goes_on_filling(parts):
    first = share(parts, "a", "0.3")
    turn(parts)
    second = share(parts, "b", "0.7")
    turn(parts)
    third = share(parts, "c", "0.4")
    turn(parts)
    devices = {held(parts, one)[0] for one in (first, second)}
    assert devices == {("GPU-0",)}
    assert held(parts, third) == (("GPU-1",), 400)


def test_a_share_that_ends_is_given_away_again(parts):
    ids = [share(parts, name, "0.5") for name in "abcd"]
    waiting = share(parts, "e", "0.5")
    turn(parts)
    assert held(parts, waiting) is None
    one = parts.container(ids[0])
    freed = one.hold.gpus
    stopped = parts.change(
        one, lambda c: to.told_to_end(c, Outcome.CANCELLED, "x", parts.clock.now())
    )
    parts.change(stopped, lambda c: to.finished(c, parts.clock.now()))
    turn(parts)
    assert held(parts, waiting) == (freed, 500)


def test_a_restarted_daemon_knows_the_shares(parts):
    share(parts, "a", "0.3")
    turn(parts)
    books, effects = compose(parts.books.settings)
    found = take_snapshot(books.board, [view("n1", facts=TWO)])
    effects.writer.stop()
    effects.engine.dispose()
    assert found.cluster.gpus_free.tolist() == [[1]]
    assert found.cluster.gpu_rest_milli.tolist() == [[[700]]]
    assert found.shared.slot_of == {"GPU-0": (0, 0, 0)}


def test_a_used_up_device_keeps_its_slot(parts):
    share(parts, "a", "0.5")
    share(parts, "b", "0.5")
    turn(parts)
    found = take_snapshot(parts.books.board, [view("n1", facts=TWO)])
    assert found.cluster.gpu_rest_milli.tolist() == [[[USED_UP]]]
    times = take_times(found, found.pending.key, 0)
    assert times.ends.share_slot.tolist() == [0, 0]
    assert times.ends.share_milli.tolist() == [500, 500]
    assert times.ends.gpus.tolist() == [[0], [0]]


def test_the_container_sees_the_device_and_its_share(parts):
    first = share(parts, "a", "0.25")
    turn(parts)
    wish = requests_of(parts.books, parts.effects).request(parts.container(first))
    assert wish.gpu_uuids == ("GPU-0",)
    assert job_env(wish)["DORA_GPU_SHARE"] == "0.25"
    assert job_env(wish)["NVIDIA_VISIBLE_DEVICES"] == "GPU-0"


@pytest.mark.mission("M80")
def test_the_list_of_nodes_counts_thousandths(parts):
    share(parts, "a", "0.25")
    share(parts, "b", "0.25")
    whole(parts, "c", 1)
    turn(parts)
    row = parts.views.nodes.row(parts.books.fleet.get("n1"))
    assert row["gpus"] == [{"model": V100, "total": 2, "held": 2, "held_milli": 1500}]
    assert NODE_CELLS["gpus"][1](row) == f"{V100} 1.5/2"


def test_slices_follow_the_share():
    n1 = view("n1")
    assert amounts(demand(gpu_milli=500), n1) == (1000, 2048)
    assert amounts(demand(gpu_milli=300, memory_mib=SHARE), n1) == (600, 1228)


def test_devices_are_never_given_twice():
    free = FreeDevices(view("n1", facts=TWO), [hold(gpus=("GPU-0",), gpu_milli=600)])
    assert free.take_share(V100, 500, "GPU-0") is None
    assert free.take_share(V100, 400, "GPU-0") == "GPU-0"
    assert free.take_whole([(V100, 2)]) is None
    assert free.take_whole([(V100, 1)]) == [("GPU-1", V100)]
    assert free.take_share(V100, 1, None) is None
    assert free.take_share(V100, 1, "GPU-1") is None


def test_a_device_freed_in_between_is_opened_anew():
    free = FreeDevices(view("n1", facts=TWO), [])
    assert free.take_share(V100, 500, "GPU-1") == "GPU-1"
    assert free.shared == {"GPU-1": 500}
    assert free.take_whole([(V100, 1)]) == [("GPU-0", V100)]


def test_a_site_has_to_allow_shares():
    spec = document(gpu_share="0.5").spec
    with pytest.raises(Refused, match=r"an admin may set containers\.gpu_shares"):
        check_site_bounds(spec, Settings())
    allowed = Settings(containers={"gpu_shares": True})
    (warning,) = check_site_bounds(spec, allowed)
    assert "gpu.share 0.5: shares of a GPU are not isolated" in warning
    assert check_site_bounds(document().spec, allowed) == []


def test_a_share_is_billed_as_a_share(parts):
    part = hold(gpus=("GPU-0",), gpu_models=(V100,), gpu_milli=250)
    prices = parts.books.credits.prices
    (item, *_) = hold_items(part, None, prices, "dc-rov-01")
    assert (item.model, item.milli) == (V100, 250)


def test_a_device_opened_in_one_part_of_a_plan_is_filled_in_the_next(
    parts, monkeypatch
):
    monkeypatch.setattr(commit, "PART", 1)
    shares = [share(parts, name, "0.25") for name in "abcd"]
    turn(parts)
    assert {held(parts, one) for one in shares} == {(("GPU-0",), 250)}
