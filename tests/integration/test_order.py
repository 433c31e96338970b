"""The order on real parts: fair share decides who starts, and `dshare` turns it round.

Real daemon, commands, sshd and dockerd; only the GPUs are pretended.
"""

import json
import time
from typing import Any

import pytest

from tests.integration.dorad_process import Site, as_nobody

pytestmark = pytest.mark.integration

RTX = "Quadro RTX 6000"
ONE = ("-G", "1", "--gpu-model", RTX, "-i", "busybox", "-t", "1h")


def by_nobody(site: Site, seconds: float) -> str:
    """A workload of user nobody on the one RTX; its id."""
    options = {"gpus": "1", "gpu_models": [RTX], "image": "busybox", "time": "1h"}
    cmd = ["sleep", str(seconds)]
    with as_nobody():
        status, answer = site.request(
            "POST", "/v1/workloads", {"options": {**options, "cmd": cmd}}
        )
    assert status == 201, answer
    return str(answer["id"])


def order(site: Site) -> list[str]:
    """The ids of what waits, in the order of the queue."""
    rows = json.loads(site.daemon.ask("dprio", "--json"))
    for row in rows:
        nice = row["terms"].pop("nice")
        assert sum(row["terms"].values()) - nice == row["priority"]
    return [str(row["id"]) for row in rows]


def tree(site: Site) -> dict[str, dict[str, Any]]:
    """The share tree by name."""
    rows = json.loads(site.daemon.ask("dshare", "tree", "--json"))
    return {row["name"]: row for row in rows}


def test_fair_share_decides_and_a_change_of_shares_flips_it(site: Site) -> None:
    by = by_nobody(site, 0.5)
    site.wait_ended(by, "done")
    blocker = site.daemon.submit(*ONE, "--", "sleep", "600")
    site.daemon.wait_for(blocker, state="running")
    time.sleep(3.0)
    mine = site.daemon.submit(*ONE, "--", "sleep", "600")
    theirs = by_nobody(site, 600)

    assert order(site) == [theirs, mine]
    said = site.daemon.ask("dshare", "compare", "root", "nobody")
    assert said.endswith("nobody is ahead\n")
    why = site.daemon.ask("dstat", "--why", mine)
    assert "turn: 2 of 2" in why
    assert "1 workload of nobody is ahead" in why

    site.daemon.ask("dshare", "user", "root", "--shares", "1000000")
    assert order(site) == [mine, theirs]
    site.daemon.ask("dcancel", blocker)
    site.daemon.wait_for(mine, state="running")
    assert site.daemon.rows(theirs)[0]["state"] == "queued"
    log = json.loads(site.daemon.ask("dshare", "log", "--json"))
    assert (log[0]["key"], log[0]["actor"]) == ("user.root", "root")
    site.daemon.ask("dshare", "user", "root", "--remove")


def test_use_outlives_a_kill_of_the_daemon(site: Site) -> None:
    ref = site.daemon.submit(*ONE, "--", "sleep", "1")
    site.wait_ended(ref, "done")
    running = site.daemon.submit(*ONE, "--", "sleep", "600")
    site.daemon.wait_for(running, state="running")
    before = tree(site)["root"]["used_weighted"]
    site.daemon.kill()
    site.restart()
    after = tree(site)["root"]["used_weighted"]
    assert before <= after < before + 30 / 3600
    assert site.daemon.ask("dshare", "rebuild") == "the cached use was right\n"


def test_only_an_admin_changes_the_policy(site: Site) -> None:
    with as_nobody():
        answers = [
            site.request("POST", "/v1/policy", {"set": ["half_life=1d"]}),
            site.request(
                "POST", "/v1/shares/user", {"action": "set", "name": "nobody"}
            ),
            site.request("POST", "/v1/shares/rebuild", {}),
        ]
        seen = site.request("GET", "/v1/policy?render=json")
    assert [status for status, _ in answers] == [403] * 3
    assert seen[0] == 200
