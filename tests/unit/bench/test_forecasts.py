"""The bench of start forecasts: what repeats itself is met, what changes is missed."""

import json

import pytest

from bench.forecasts import main

HEAD = "submit_s,duration_s,requested_s,gpus,user\n"


def log_of(tmp_path, rows):
    path = tmp_path / "log.csv"
    lines = (f"{at},{run},{limit},{gpus},ana\n" for at, run, limit, gpus in rows)
    path.write_text(HEAD + "".join(lines))
    return path


def forecasts(capsys, path, *words):
    code = main(["--log", str(path), "--json", "--capacity", "2", *words])
    out, err = capsys.readouterr()
    return code, json.loads(out) if code == 0 else None, err


def test_runs_that_are_always_alike_start_when_they_should(tmp_path, capsys):
    # Each takes both GPUs for ten minutes and comes five minutes after the one before.
    path = log_of(tmp_path, [(300 * number, 600, 600, 2) for number in range(40)])
    code, found, _ = forecasts(capsys, path)
    assert code == 0
    assert found["asked"] == 40
    # The first waits for nobody; of the second the limit says enough.
    assert found["all"]["forecasts"] == 39
    assert found["all"]["inside"] == 1.0
    assert list(found["by_gpus"]) == ["2 to 4"]


def test_runs_that_suddenly_take_longer_are_missed(tmp_path, capsys):
    rows = [(700 * number, 600, 36_000, 2) for number in range(30)]
    rows += [(21_000, 30_000, 36_000, 2), (21_100, 600, 36_000, 1)]
    code, found, _ = forecasts(capsys, log_of(tmp_path, rows))
    assert code == 0
    assert found["by_gpus"] == {
        "1": {**found["all"], "forecasts": 1, "inside": 0.0, "after": 1.0}
    }


def test_a_smaller_sample_asks_about_fewer(tmp_path, capsys):
    path = log_of(tmp_path, [(300 * number, 600, 3600, 2) for number in range(40)])
    _, found, _ = forecasts(capsys, path, "--sample", "4")
    assert (found["asked"], found["all"]["forecasts"]) == (4, 3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--sample", "0"), "--sample 0"),
        (("--window", "90,1"), "no job"),
        (("--window", "x"), "FIRST,DAYS"),
    ],
)
def test_what_cannot_be_replayed_is_refused(tmp_path, capsys, words, says):
    code, _, err = forecasts(capsys, log_of(tmp_path, [(0, 60, 60, 1)]), *words)
    assert code == 2
    assert says in err
