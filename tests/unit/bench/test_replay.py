"""Logs are read as CSV, packed or not; what is no log is refused in a sentence."""

import gzip
import json

import pytest

from bench.replay import main

HEAD = "submit_s,duration_s,requested_s,gpus,cpus,user,group\n"
ROWS = HEAD + "".join(
    f"{60 * number},{100 + number},,{1 + number % 3},,,vc{number % 2}\n"
    for number in range(50)
)


def replay(capsys, path, *words):
    code = main(["--log", str(path), "--json", *words])
    out, err = capsys.readouterr()
    return code, json.loads(out) if code == 0 else None, err


@pytest.mark.parametrize(
    "policy", ["fifo", "fifo-easy", "slurm-like", "default", "preemptive"]
)
def test_every_policy_tells_its_figures(tmp_path, capsys, policy):
    path = tmp_path / "log.csv"
    path.write_text(ROWS)
    code, found, _ = replay(capsys, path, "--capacity", "4", "--policy", policy)
    assert code == 0
    assert (found["jobs"], found["unfinished"]) == (50, 0)
    assert found["slowdown_mean"] >= 1
    assert 0 < found["utilisation"] <= 1
    assert {"wait_mean_h", "wait_median_h", "wait_p95_h", "jain", "seconds"} <= set(
        found
    )


def test_packed_and_plain_give_the_same(tmp_path, capsys):
    plain, packed = tmp_path / "log.csv", tmp_path / "log.csv.gz"
    plain.write_text(ROWS)
    with gzip.open(packed, "wt") as file:
        file.write(ROWS)
    words = ("--capacity", "4", "--seed", "5", "--against", "fifo")
    results = [replay(capsys, path, *words)[1] for path in (plain, packed)]
    for one in results:
        one.pop("seconds"), one["against"].pop("seconds")
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        (ROWS, ("--capacity", "0"), "capacity 0"),
        (ROWS, ("--capacity", "4", "--policy", "best"), "'best'"),
        (ROWS, ("--capacity", "4", "--against", "best"), "'best'"),
        (ROWS, ("--capacity", "4", "--window", "3"), "FIRST,DAYS"),
        (ROWS, ("--capacity", "4", "--seed", "-1"), "--seed -1"),
        (ROWS, ("--capacity", "4", "--window", "90,1"), "no job"),
        (ROWS.replace("submit_s", "when"), ("--capacity", "4"), "submit_s"),
        (ROWS.replace("user,group", "a,b"), ("--capacity", "4"), "user or group"),
        (ROWS.replace(",100,", ",soon,"), ("--capacity", "4"), "line 2"),
        ("", ("--capacity", "4"), "no column"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, text, words, says):
    path = tmp_path / "log.csv"
    path.write_text(text)
    code, _, err = replay(capsys, path, *words)
    assert code == 2
    assert says in err
    assert len(err.splitlines()) == 1


def test_what_is_not_packed_or_not_there_is_refused(tmp_path, capsys):
    fake = tmp_path / "log.csv.gz"
    fake.write_text(ROWS)
    code, _, err = replay(capsys, fake, "--capacity", "4")
    assert (code, "gzip" in err) == (2, True)
    code, _, err = replay(capsys, tmp_path / "none.csv", "--capacity", "4")
    assert (code, "cannot be read" in err) == (2, True)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01" * 50)
    assert replay(capsys, binary, "--capacity", "4")[0] == 2
