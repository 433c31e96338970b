"""The bench of credit's pace: an even use is met, a log that is too short refused."""

import json

from bench.pace import main

HEAD = "submit_s,duration_s,gpus,user\n"
DAY = 86_400


def log_of(tmp_path, uses):
    path = tmp_path / "log.csv"
    rows = (
        f"{day * DAY},{seconds},1,ana\n" for day, seconds in enumerate(uses) if seconds
    )
    path.write_text(HEAD + "".join(rows))
    return path


def test_an_even_use_is_forecast_exactly(tmp_path, capsys):
    path = log_of(tmp_path, [3600] * 30)
    assert main(["--log", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["windows"] == {"forecasts": 9, "inside": 1.0, "width_median": 0.0}


def test_use_that_doubles_at_once_is_missed_by_both(tmp_path, capsys):
    path = log_of(tmp_path, [3600] * 14 + [7200] * 8)
    assert main(["--log", str(path)]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert "forecasts 1  inside 0.0" in line


def test_a_short_log_is_refused(tmp_path, capsys):
    path = log_of(tmp_path, [3600] * 20)
    assert main(["--log", str(path)]) == 2
    assert "21 days or more" in capsys.readouterr().err
