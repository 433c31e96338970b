"""The benches refuse senseless input, and replay days, on small files."""

import json

import numpy as np
import pytest

from bench import arrivals, placement, placement_speed
from bench.placement_books import Books
from bench.placement_churn import replay_day
from bench.placement_files import Tasks
from dorabatch.placer.arrays.types import Placement
from tests.oracles.placer_cases import make_cluster

NODES = "sn,cpu_milli,memory_mib,gpu,model\na,8000,8192,2,T4\nb,8000,8192,2,V100\n"
TASKS = "cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
TIMES = TASKS.strip() + ",submit_s,duration_s\n"


def _run(monkeypatch, tmp_path, nodes, tasks, *more):
    (tmp_path / "n.csv").write_text(nodes)
    (tmp_path / "t.csv").write_text(tasks)
    words = ["--nodes", str(tmp_path / "n.csv"), "--tasks", str(tmp_path / "t.csv")]
    monkeypatch.setattr("sys.argv", ["bench.placement", *words, *more])
    return placement.main()


@pytest.mark.parametrize(
    ("nodes", "tasks", "more", "words"),
    [
        (NODES, TASKS + "1,x,1,1000,\n", (), "memory_mib is 'x'"),
        (NODES, TASKS + "-1,1,1,1000,\n", (), "cpu_milli is '-1'"),
        (NODES, "cpu_milli,memory_mib\n1,1\n", (), "lacks num_gpu"),
        (NODES, TASKS, (), "has no rows"),
        (NODES.replace("gpu,", "x,"), TASKS + "1,1,1,1000,\n", (), "lacks gpu"),
        (NODES, TASKS + "1,1,1,1000,\n", ("--window", "0"), "--window 0"),
        (NODES, TASKS + "1,1,1,1000,\n", ("--durations",), "lacks submit_s"),
        (NODES, TASKS + "0,1,0,0,\n", (), "asks for no GPU and no CPU"),
        (NODES, TASKS + "1,1,1.5,1000,\n", (), "num_gpu is '1.5'"),
        (NODES, TASKS + "1,1,1,1500,\n", (), "line 2: gpu_milli is 1500 with one GPU"),
        (NODES, TASKS + "1,1,1,0,\n", (), "gpu_milli is 0 with one GPU"),
        (NODES, TASKS + "1,1,1,500,\n", (), "give --share fractional"),
        (NODES, TASKS + "1,1\n", (), "line 2: has no num_gpu"),
        (NODES, TASKS + "1,1,1,1000,,9\n", (), "line 2: has more cells"),
        (NODES, TASKS + "1,1,1,1000,\n", ("--node-seed", "-1"), "--node-seed -1: give"),
        (NODES, TIMES + "1,1,1,1000,,0,0\n", ("--durations",), "duration_s is '0'"),
    ],
)
def test_senseless_input_is_one_sentence(
    monkeypatch, tmp_path, capsys, nodes, tasks, more, words
):
    assert _run(monkeypatch, tmp_path, nodes, tasks, *more) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_day_is_replayed_by_every_policy(monkeypatch, tmp_path, capsys):
    rows = [f"1000,512,{1 + k % 2},1000,T4|V100,{k * 20},90\n" for k in range(30)]
    rows.append("1000,512,8,1000,,40,90\n")
    names = ("default", "first-fit", "fgd")
    policies = ("--policy", *names, "--durations", "--json")
    assert _run(monkeypatch, tmp_path, NODES, TIMES + "".join(rows), *policies) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["policy"] for one in found] == list(names)
    for one in found:
        assert one["never"] == 1
        assert one["utilisation"] > 50
        assert one["wait_mean_s"] > 0


def test_waits_are_counted_from_submission():
    # One GPU; the second task waits for the first, the third never starts.
    one = np.ones(3, dtype=np.int64)
    tasks = Tasks(
        cpu_milli=one,
        memory_mib=one,
        gpu_count=one,
        gpu_milli=1000 * one,
        accepts=np.ones((3, 3), dtype=bool),
        submit_s=np.array([0, 0, 60]),
        duration_s=np.array([30, 900, 30]),
    )
    books = Books(make_cluster([(4000, 4096, (1, 0, 0))]), tasks)

    def step(rows, books, _ended):
        if books.cluster.gpus_free.sum() == 0 or len(rows) == 0:
            return ()
        return (Placement(key=int(rows[0]), node=0, gpus=(1, 0, 0)),)

    day = replay_day("by hand", tasks, books, step)
    assert day.wait_mean_s == 10.0
    assert day.waiting_at_end == {"1": 1}
    assert day.cycles == 3


def test_speed_bench_recounts_what_it_times(monkeypatch, tmp_path, capsys):
    (tmp_path / "n.csv").write_text(NODES)
    (tmp_path / "t.csv").write_text(TASKS + "1000,512,1,1000,\n1000,512,1,500,\n")
    words = ["--node-list", str(tmp_path / "n.csv"), "--pods", str(tmp_path / "t.csv")]
    words += ["--nodes", "5", "--pending", "40", "--runs", "1", "--json"]
    monkeypatch.setattr("sys.argv", ["bench", *words, "--share", "fractional"])
    assert placement_speed.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["nodes"], found["allocated_percent"]) == (5, 100.0)
    monkeypatch.setattr("sys.argv", ["bench", *words, "--nodes", "0"])
    assert placement_speed.main() == 2


def test_stream_bench_times_every_window(monkeypatch, tmp_path, capsys):
    (tmp_path / "n.csv").write_text(NODES)
    (tmp_path / "t.csv").write_text(TASKS + "1000,512,1,1000,\n")
    files = ["--node-list", str(tmp_path / "n.csv"), "--pods", str(tmp_path / "t.csv")]
    files += ["--nodes", "5", "--pending", "25"]
    monkeypatch.setattr("sys.argv", ["bench", *files, "--window", "10"])
    assert placement_speed.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["window_cpu_ms"]) == told["all"]["windows"] == 3
    assert told["all_placed"]["windows"] < 3
    monkeypatch.setattr("sys.argv", ["bench", *files, "--window", "0"])
    assert placement_speed.main() == 2
    assert "--window 0" in capsys.readouterr().err


PODS = TASKS.strip() + ",scheduled_time,deletion_time\n"
POD = "1000,512,1,1000,,0,90\n"


def _arrivals(monkeypatch, tmp_path, nodes, pods, *more):
    (tmp_path / "n.csv").write_text(nodes)
    (tmp_path / "p.csv").write_text(pods)
    words = ["--nodes", str(tmp_path / "n.csv"), "--pods", str(tmp_path / "p.csv")]
    more = [word.replace("PODS", str(tmp_path / "p.csv")) for word in more]
    monkeypatch.setattr("sys.argv", ["bench.arrivals", *words, *more])
    return arrivals.main()


@pytest.mark.parametrize(
    ("nodes", "pods", "more", "words"),
    [
        (NODES, "cpu_milli,memory_mib\n1,1\n", (), "lacks num_gpu"),
        (NODES, PODS, (), "has no rows"),
        (NODES, PODS + "1,x,1,1000,,0,9\n", (), "memory_mib is 'x'"),
        (NODES, PODS + "1,1,0,0,,0,9\n", (), "no pod asks for a GPU"),
        (NODES, PODS + "1,1,1,500,,0,9\n", (), "give --share fractional"),
        (NODES.replace("2,", "0,"), PODS + POD, (), "no node has a GPU"),
        (NODES, PODS + POD, ("--percent", "0"), "--percent 0.0: give more than 0"),
        (NODES, PODS + POD, ("--percent", "inf"), "--percent inf: give"),
        (NODES, PODS + POD, ("--percent", "nan"), "--percent nan: give"),
        (NODES, PODS + POD, ("--seed", "-1"), "--seed -1: give 0 or more"),
        (NODES, PODS + POD, ("--load", "-1", "--durations", "PODS"), "--load -1.0"),
        (NODES, PODS + POD, ("--load", "nan", "--durations", "PODS"), "--load nan"),
        (
            NODES, PODS + "1,1,1,1000,,,\n", ("--load", "1", "--durations", "PODS"),
            "no row has both",
        ),
        (NODES, PODS + POD, ("--out", "/proc/none/x"), "--out /proc/none/x: cannot be"),
    ],
)  # fmt: skip
def test_senseless_arrivals_are_one_sentence(
    monkeypatch, tmp_path, capsys, nodes, pods, more, words
):
    assert _arrivals(monkeypatch, tmp_path, nodes, pods, *more) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_arrivals_ask_for_as_much_as_was_wanted(monkeypatch, tmp_path, capsys):
    assert _arrivals(monkeypatch, tmp_path, NODES, PODS + POD, "--percent", "150") == 0
    assert capsys.readouterr().out == TASKS + "1000,512,1,1000,\n" * 6
