"""dsub --quote: cost, credit and start as a submission meets them; stores nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from dorabatch.daemon.intake.quote import quote_text
from dorabatch.errors import Refused
from dorabatch.resources.manifest import parse_manifest
from tests.makers import RTX, V100, document, facts, gpus, hold, node_settings
from tests.unit.daemon.conftest import Parts, caller
from tests.unit.daemon.test_share_commands import ME, Shell, settings, shell

assert settings and shell


@pytest.fixture
def priced(parts: Parts) -> Parts:
    """Four V100 and two RTX; prices of both."""
    fleet, now = parts.books.fleet, parts.clock.now()
    for name, found in (("n1", gpus(4)), ("n2", gpus(2, RTX, "R"))):
        fleet.put(node_settings(name))
        fleet.seen(name, now, facts(hostname=name, gpus=found))
    for model, price in ((V100, "2.5"), (RTX, "1.1")):
        apply_kind(
            parts,
            f"kind: Resourcecredit\nmetadata: {{name: {model}, zone: dc-rov-01}}\n"
            f"spec: {{credit: {{per: {{hour: {price}}}}}}}\n",
        )
    return parts


def apply_kind(parts: Parts, text: str) -> None:
    (one,) = parse_manifest(f"apiVersion: v1\n{text}", path="x.yaml").documents
    parts.apply(caller(is_admin=True), one)


def ask(parts: Parts, **options: Any) -> dict[str, Any]:
    wanted = document(**options)
    return parts.daemon.intake.quotes.quote(caller(), wanted)


def test_each_acceptable_model_has_its_cost(priced: Parts) -> None:
    found = ask(priced, gpus="2", time="3h", replicas="2")
    assert found["offers"] == [
        {"model": RTX, "per_hour": 4.4, "for_limit": 13.2},
        {"model": V100, "per_hour": 10, "for_limit": 30},
    ]
    assert (found["held_at_most"], found["covered"]) == (30, True)
    assert found["credit"] == "credit: alice is not limited"
    only = ask(priced, gpus="1", gpu_models=[RTX])
    assert only["offers"] == [{"model": RTX, "per_hour": 1.1, "for_limit": None}]
    assert "1.1 credits an hour, for as long as it runs" in quote_text(only)


def test_without_a_node_that_will_do_no_cost_is_told(parts: Parts) -> None:
    told = quote_text(ask(parts, gpus="1", gpu_models=[V100]))
    assert "no node known here has what it accepts" in told


def test_the_balance_and_when_it_would_cover(priced: Parts) -> None:
    apply_kind(
        priced,
        "kind: User\nmetadata: {name: alice}\n"
        "spec: {credits: [{zone: dc-rov-01, weekly: 20}]}\n",
    )
    # Half a day of the week is over: 20 x 13/14.
    covered = ask(priced, gpus="1", gpu_models=[V100], time="7h")
    assert covered["covered"] and covered["held_at_most"] == 17.5
    assert "covered, 18.571424 credits are available" in covered["credit"]
    later = ask(priced, gpus="1", gpu_models=[V100], time="8h")
    assert "needs 20, 18.571424 credits are available" in later["credit"]
    assert "covered when credit resets Monday 00:00 UTC (2026-01-12)" in later["credit"]
    assert "until then it waits" in later["credit"]
    never = ask(priced, gpus="2", gpu_models=[V100], time="8h")
    assert not never["covered"]
    assert "needs 40, 18.571424 credits are available" in never["credit"]
    assert "the weekly 20 never cover it" in never["credit"]
    assert never["start"] is None
    assert "start: no forecast (it would wait for credit)" in quote_text(never)


def test_the_turn_and_the_start_are_those_of_a_submission(priced: Parts) -> None:
    for number in range(4):
        done = priced.submit(f"r{number}", options={"time": "2h"})
        where = hold(gpus=(f"GPU-{number}",), cores=(number,))
        priced.run(priced.container(done.workload_id), where)
    priced.submit("w", options={"time": "1h", "gpu_models": [V100]})
    options = {"gpus": "4", "gpu_models": [V100], "time": "1h"}
    found = ask(priced, **options)
    assert (found["rank"], found["waiting"]) == (2, 2)
    assert found["start"] == "2026-01-05 15:00 to 15:01 UTC"
    before = priced.books.board.pending.arrays()
    key = priced.submit("mine", options=options).workload_id
    priced.timers.forecaster.turn()
    assert priced.effects.forecasts.last.starts[key].text() == found["start"]
    assert len(before) == 1


def test_what_is_like_a_waiting_one_has_its_turn_behind_it(priced: Parts) -> None:
    options = {"gpus": "2", "gpu_models": [V100]}
    priced.submit("w", options=options)
    priced.submit("small", options={"gpus": "1"})
    asked = ask(priced, **options)
    assert (asked["rank"], asked["waiting"]) == (3, 3)


def test_nothing_is_stored(priced: Parts) -> None:
    ask(priced)
    books = priced.books
    assert not books.board.workloads and not len(books.board.pending)
    assert books.claims.columns(()).users == ()


def test_what_could_never_run_is_refused(priced: Parts) -> None:
    with pytest.raises(Refused, match="no node has GPU model 'A1'"):
        ask(priced, gpu_models=["A1"])


def test_the_command_prints_it(shell: Shell, priced: Parts, tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/sh\n#DSUB --image busybox --gpus 1 --time 2h\ntrue\n")
    said = shell.run("dsub", "--quote", str(script)).splitlines()
    assert said[0] == f"{RTX}: 1.1 credits an hour, 2.2 for its limit of 2 h"
    assert said[2] == f"credit: {ME} is not limited"
    assert said[3].startswith("turn: 1 of 1; start: 2026-01-05 12:00 to 12:01 UTC; no")
    assert said[-1] == "nothing was submitted"
    record = json.loads(shell.run("dsub", "--quote", "--json", str(script)))
    assert record["offers"][1]["model"] == V100
    assert shell.rows("dstat") == []
    refused = shell.run("dsub", "--json", str(script), status=2)
    assert "--json goes with --quote" in refused
