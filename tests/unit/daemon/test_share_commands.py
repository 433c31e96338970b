"""dshare, dprio and dstat's turn as users type them, against the daemon's own API."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from dorabatch.clock import SystemClock
from dorabatch.config import Settings
from dorabatch.daemon.api.server import ApiServer
from dorabatch.daemon.api.unix_accounts import UnixAccounts
from tests.makers import BOB, facts, node_settings
from tests.unit.daemon.conftest import Parts
from tests.unit.daemon.test_shares import DAY, end, start

ME = UnixAccounts(SystemClock()).submitter_of(os.getuid(), os.getgid()).user


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings with a short socket path, and whoever runs the tests as admin."""
    with TemporaryDirectory(prefix="dora-") as place:
        yield Settings(state_dir=tmp_path, socket=Path(place) / "s", admins=(ME,))


class Shell:
    """Runs commands against the served parts."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def rows(self, *argv: str) -> list[dict[str, Any]]:
        """What a command prints as JSON."""
        found: list[dict[str, Any]] = json.loads(self.run(*argv, "--json"))
        return found

    def run(self, *argv: str, status: int = 0) -> str:
        """What a command prints; on standard error when it is to fail."""
        name, *words = argv
        code = (
            f"import sys; from dorabatch.cmds.front import {name} as c; sys.exit(c())"
        )
        path = str(self.parts.books.settings.socket)
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env={**os.environ, "DORABATCH_SOCKET": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stderr if status else done.stdout


@pytest.fixture
def shell(parts: Parts) -> Iterator[Shell]:
    """The API served, and a shell beside it."""
    server = ApiServer(parts.app(), parts.books.settings)
    server.start()
    yield Shell(parts)
    server.stop()


def test_the_tree_is_made_and_shown(shell: Shell) -> None:
    parts = shell.parts
    assert shell.run("dshare", "account", "add", "physics", "--shares", "60") == (
        "account.physics: none -> parent=- shares=60\n"
    )
    shell.run("dshare", "account", "add", "maths", "--shares", "40")
    shell.run("dshare", "user", "alice", "--account", "physics", "--shares", "2")
    shell.run("dshare", "user", "bob", "--account", "maths")
    one = start(parts, "a", gpus=("g1", "g2"), gpu_models=("V100", "V100"))
    parts.clock.advance(DAY)
    end(parts, one)
    parts.submit("b", submitter=BOB, workspace="bob")
    lines = shell.run("dshare").splitlines()
    assert lines[0].split() == [
        *("NAME", "KIND", "SHARES", "PROMISED", "USED(WEIGHTED)", "OF_USE"),
        *("SHARE/USE", "FACTOR", "RUNS(GPU)", "WAITS(GPU)"),
    ]
    assert [line.split()[0] for line in lines[1:]] == [
        "physics",
        "alice",
        "maths",
        "bob",
    ]
    assert lines[2].startswith("  alice")
    rows = {
        row["name"]: row for row in json.loads(shell.run("dshare", "tree", "--json"))
    }
    assert rows["alice"]["promised"] == 0.6
    assert rows["alice"]["used_weighted"] == pytest.approx(45.7, abs=0.1)
    assert (rows["bob"]["waiting_gpus"], rows["maths"]["waiting_gpus"]) == (1, 1)
    assert (rows["bob"]["factor"], rows["alice"]["factor"]) == (1.0, 0.5)
    assert [
        r["name"] for r in json.loads(shell.run("dshare", "tree", "maths", "--json"))
    ]
    assert shell.run("dshare", "compare", "alice", "bob") == (
        "at the top: account physics (60.0 % of the shares, 100.0 % of the use) "
        "against account maths (40.0 % of the shares, 0.0 % of the use): bob is ahead\n"
    )
    assert "bob is below maths" in shell.run("dshare", "compare", "bob", "maths")
    said = shell.run("dshare", "compare", "bob", "zoe", status=2)
    assert "'zoe' is no account of the share tree" in said


def test_settings_are_set_audited_and_taken_back(shell: Shell) -> None:
    words = ("set", "weights.credit=.3", "half_life=1d", "--reason", "term")
    assert shell.run("dshare", *words) == (
        "half_life: 7d -> 1d\nweights.credit: 0.2 -> .3\n"
    )
    assert shell.run("dshare", "set", "half_life=1d") == (
        "nothing changed: it is so already\n"
    )
    table = shell.run("dshare", "settings")
    assert ["half_life", "1d", "set"] in [row.split()[:3] for row in table.splitlines()]
    assert shell.run("dshare", "unset", "half_life") == "half_life: 1d -> 7d\n"
    log = shell.rows("dshare", "log")
    assert [(one["key"], one["actor"], one["reason"]) for one in log] == [
        ("half_life", ME, ""),
        ("weights.credit", ME, "term"),
        ("half_life", ME, "term"),
    ]
    assert shell.run("dshare", "rebuild") == "the cached use was right\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("log", "--limit", "many"), "'many' (allowed: a whole number from 1 to"),
        (("set", "half_life=9999999d"), "at most 10 years are allowed"),
        (("set", "weights.age=9999999"), "write a number from 0 to 999999"),
        (
            ("account", "add", "lab", "--shares", "1" + "0" * 20),
            "(allowed: a whole number from 0 to 99999999999, or 'parent'",
        ),
        (
            ("whatif", "--since", "0d", "--set", "half_life=1d"),
            "--since '0d': it must be above 0",
        ),
        (("set", "half_life=soon"), "half_life = 'soon': write a time such as"),
        (("set", "colour=red"), "there is no setting 'colour'"),
        (("set", "weights.age=-1"), "a number from 0 to 999999"),
        (
            ("set", "weights.fair_share=0", "weights.credit=0", "weights.age=0"),
            "add up to nothing",
        ),
        (("account", "add", "x", "--shares=-1"), "shares: '-1' (allowed: a whole"),
        (("account", "add", "x", "--shares", "many"), "shares: 'many' (allowed"),
        (("account", "add", "x", "--parent", "y"), "its parent 'y' does not exist"),
        (("account", "set", "x", "--shares", "1"), "there is no account 'x'"),
        (("account", "remove", "x"), "there is no account 'x'"),
        (("user", "ana", "--account", "y"), "its parent 'y' does not exist"),
        (("user", "ana"), "give --account, --shares or --remove"),
        (("user", "ana", "--remove", "--shares=2"), "--remove goes with neither"),
        (("tree", "nobody"), "'nobody' is no account"),
        (("log", "--limit", "0"), "'0' (allowed: a whole number from 1 to 10000)"),
    ],
)
def test_a_mistake_is_a_sentence(
    shell: Shell, words: tuple[str, ...], said: str
) -> None:
    assert said in shell.run("dshare", *words, status=2)
    assert shell.rows("dshare", "log") == []


def test_a_loop_in_the_tree_is_refused(shell: Shell) -> None:
    shell.run("dshare", "account", "add", "a")
    shell.run("dshare", "account", "add", "b", "--parent", "a")
    said = shell.run("dshare", "account", "set", "a", "--parent", "b", status=2)
    assert "its parents form a loop (a -> b -> a)" in said
    assert shell.run("dshare", "account", "set", "b", "--parent", "/") == (
        "account.b: parent=a shares=1 -> parent=- shares=1\n"
    )
    assert shell.run("dshare", "account", "set", "a", "--shares", "parent") == (
        "account.a: parent=- shares=1 -> parent=- shares=parent\n"
    )


def test_the_terms_sum_to_what_is_sorted_by(shell: Shell) -> None:
    parts = shell.parts
    shell.run("dshare", "set", "qos.high=2", "weights.slow_down=.2")
    parts.submit("a", options={"nice": "17"})
    parts.clock.advance(DAY / 3)
    parts.submit("b", submitter=BOB, workspace="bob", options={"qos": "high"})
    parts.submit("c", replicas=3)
    parts.clock.advance(DAY)
    rows = shell.rows("dprio")
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert rows[0]["name"] == "b"
    for row in rows:
        nice = row["terms"].pop("nice")
        assert sum(row["terms"].values()) - nice == row["priority"]
        assert row["terms"]["slow_down"] > 0
    assert [r["name"] for r in shell.rows("dprio", "bob")] == ["b"]
    assert [r["id"] for r in shell.rows("dprio", "1")] == [1]
    assert shell.run("dprio").splitlines()[0].split() == [
        *("RANK", "ID", "WORKSPACE", "NAME", "USER", "TIER", "PRIO", "FAIR", "CREDIT"),
        *("AGE", "SLOW", "QOS", "-NICE"),
    ]
    assert "no workload 'nobody'" in shell.run("dprio", "nobody", status=2)


def test_dstat_shows_the_turn(shell: Shell) -> None:
    parts = shell.parts
    for name in ("a", "b", "c"):
        parts.submit(name)
    parts.submit("d", submitter=BOB, workspace="bob", options={"nice": "9"})
    table = shell.run("dstat", "-o", "id,rank,prio", "--no-header").splitlines()
    assert [line.split()[:2] for line in table] == [
        *(["1", "1"], ["2", "2"], ["3", "3"], ["4", "4"])
    ]
    said = shell.run("dstat", "--why", "4")
    assert "turn: 4 of 4" in said
    assert "- nice 9" in said
    assert "3 workloads of alice are ahead; nearest: 1, 2, 3" in said
    assert "shares: at the top: bob (50.0 % of the shares, 0.0 % of the use)" in said
    first = shell.run("dstat", "--why", "1")
    assert "nothing is ahead" in first and "shares:" not in first
    assert shell.rows("dstat")[0]["rank"] == 1


# -- what if -----------------------------------------------------------------


def test_whatif_plays_the_history_and_writes_a_plot(
    shell: Shell, parts: Parts, tmp_path: Path
) -> None:
    parts.books.fleet.put(node_settings(), facts())
    for number in range(3):
        one = start(parts, f"old{number}", gpus=("g0",))
        parts.clock.advance(3600)
        end(parts, one)
    plot = tmp_path / "plot.html"
    words = ("--set", "half_life=1d", "--since", "2d", "--shakes", "2")
    text = shell.run("dshare", "whatif", *words, "--plot", str(plot))
    assert "3 jobs on 1 nodes with 4 GPUs" in text.splitlines()[0]
    assert "as it was: mean wait 0.00 h; replayed" in text.splitlines()[1]
    assert "half_life: 7d -> 1d" in text
    assert "inside the noise" in text
    assert "<svg" in plot.read_text()
    found = json.loads(shell.run("dshare", "whatif", *words, "--json"))
    assert (found["jobs"], found["shakes"]) == (3, 2)
    assert [row["user"] for row in found["users"]] == ["alice"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "half_live=1d"), "half_live"),
        (("--set", "half_life=-1"), "half_life"),
        (("--set", "half_life=1d", "--since", "soon"), "since"),
        (("--set", "nice_max=5"), "cannot be tried"),
        (("--set", "half_life=1d"), "longer --since"),
    ],
)
def test_whatif_refuses_in_a_sentence(
    shell: Shell, words: tuple[str, ...], says: str
) -> None:
    error = shell.run("dshare", "whatif", *words, status=2)
    assert says in error
    assert len(error.splitlines()) == 1


def test_an_unwritable_plot_is_said(shell: Shell, parts: Parts) -> None:
    parts.books.fleet.put(node_settings(), facts())
    one = start(parts, "old", gpus=("g0",))
    parts.clock.advance(3600)
    end(parts, one)
    words = ("--set", "half_life=1d", "--shakes", "1", "--plot", "/proc/none/x.html")
    assert "--plot" in shell.run("dshare", "whatif", *words, status=2)
