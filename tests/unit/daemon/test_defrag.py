"""`dnode defrag`: what may move, the words, and who may ask."""

from dorabatch.daemon.cycle.assembly import cycle_of
from dorabatch.daemon.views.defrag_advice import defrag_text
from dorabatch.queue import transitions as to
from tests.makers import V100, facts, hold, node_settings


class Quiet:
    """Keepers that launch nothing."""

    def launch(self, one):
        """Leave it placed."""


def fleet(parts, *names):
    for name in names:
        parts.books.fleet.put(node_settings(name))
        parts.books.fleet.seen(name, parts.clock.now(), facts(hostname=name))


def running(parts, name, node, devices, **options):
    """A running workload on these devices."""
    wanted = {"gpus": str(len(devices)), "cpus": "500m", "memory": "64Mi", **options}
    found = parts.submit(name, options=wanted).workload_id
    where = hold(node=node, gpus=devices, gpu_models=(V100,) * len(devices), cores=())
    parts.run(parts.container(found), where)
    return found


def waiting(parts, name, gpus):
    options = {"gpus": str(gpus), "cpus": "500m", "memory": "64Mi"}
    found = parts.submit(name, options=options).workload_id
    cycle_of(parts.books, parts.effects, Quiet()).run()
    return found


def test_a_restartable_one_makes_room(parts):
    fleet(parts, "n1", "n2")
    mover = running(parts, "mover", "n1", ("GPU-0",), restart="Always")
    running(parts, "fixed", "n2", ("GPU-0", "GPU-1"))
    big = waiting(parts, "big", 4)
    (gain,) = parts.views.defrag.advise()
    assert (gain["node"], gain["starts"]) == ("n1", big)
    assert gain["moves"] == [
        {"id": mover, "name": "alice/mover.1", "from": "n1", "to": "n2"}
    ]
    told = defrag_text([gain])
    assert f"1. after 1 move workload {big} can start on n1\n" in told
    assert told.endswith("Nothing was moved.\n")


def test_what_does_not_start_again_is_not_moved(parts):
    fleet(parts, "n1", "n2")
    running(parts, "a", "n1", ("GPU-0",))
    running(parts, "b", "n2", ("GPU-0", "GPU-1"), restart="Always", nodes=["n2"])
    waiting(parts, "big", 4)
    assert parts.views.defrag.advise() == []
    assert "nothing to gain" in defrag_text([])


def test_a_service_that_must_not_be_stopped_stays_and_a_willing_job_moves(parts):
    fleet(parts, "n1", "n2")
    kept = {"restart": "Always", "restartable": False}
    running(parts, "kept", "n2", ("GPU-0", "GPU-1"), **kept)
    job = running(parts, "job", "n1", ("GPU-0",), restartable=True)
    waiting(parts, "big", 4)
    (gain,) = parts.views.defrag.advise()
    assert [(move["id"], move["to"]) for move in gain["moves"]] == [(job, "n2")]


def test_neither_shares_nor_what_is_starting_move(parts):
    fleet(parts, "n1", "n2")
    part = parts.submit(
        "part", options={"gpu_share": "0.5", "restart": "Always", "cpus": 1}
    )
    where = hold(cores=(), gpu_milli=500)
    parts.run(parts.container(part.workload_id), where)
    begun = parts.submit("begun", options={"gpus": "1", "restart": "Always"})
    placed = parts.place(parts.container(begun.workload_id), hold(node="n2", cores=()))
    parts.change(placed, to.starting)
    waiting(parts, "big", 4)
    assert parts.views.defrag.advise() == []


def test_an_emptied_node_is_a_gain_too(parts):
    fleet(parts, "n1", "n2")
    running(parts, "a", "n1", ("GPU-0", "GPU-1"), restart="Always")
    running(parts, "b", "n2", ("GPU-0",), restart="Always")
    (gain,) = parts.views.defrag.advise()
    assert (gain["node"], gain["starts"], gain["gpus_free"]) == ("n2", None, {V100: 4})
    assert f"after 1 move n2 is empty (4 x {V100})" in defrag_text([gain])
