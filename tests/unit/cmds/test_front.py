"""What a quick run loads, and the small parts of the commands."""

import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from dorabatch.clock import FakeClock
from dorabatch.cmds.client import DaemonAway
from dorabatch.cmds.patience import Patience
from dorabatch.cmds.suggest import near
from dorabatch.cmds.watch import fit_page
from dorabatch.errors import UserError

OURS = {"argv", "client", "front", "jsontext", "late", "options", "terminal"}
PRINT_LOADED = """
import sys
before = set(sys.modules)
from dorabatch.cmds import front
sys.argv = ["{name}", *{words}]
status = front.{name}()
print(*sorted(set(sys.modules) - before), file=sys.stderr)
sys.exit(status)
"""
TEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n12\n"


def loaded(name, words):
    code = PRINT_LOADED.format(name=name, words=words)
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return set(done.stderr.split()), done.stdout


@pytest.mark.parametrize(
    ("name", "words", "more"),
    [
        ("dstat", ["-u", "ana", "--limit=5"], set()),
        ("dsub", ["--image", "a", "--", "ls"], {"dsub_options"}),
        ("dsub", ["{script}"], {"dsub_options", "script_file"}),
        ("dcancel", ["12"], set()),
        ("dlog", ["12", "-n", "5"], set()),
    ],
)
def test_a_quick_run_loads_our_own_small_modules_only(
    serve, tmp_path, name, words, more
):
    script = tmp_path / "a.sh"
    script.write_text("#!/bin/sh\n#DSUB --image a\n")
    serve([TEXT])
    found, out = loaded(name, [word.format(script=script) for word in words])
    assert out.endswith("12\n")
    ours = {f"dorabatch.cmds.{part}" for part in OURS | {name} | more}
    shared = {"dorabatch.resources", "dorabatch.resources.option"}
    if name == "dsub":
        shared.add("dorabatch.resources.job_options")
    around = {"dorabatch", "dorabatch.cmds", "dorabatch.errors", *shared}
    extra = found - ours - around
    assert extra <= {"_socket", "types"}


def test_the_check_above_sees_what_a_full_run_loads():
    found, _ = loaded("dstat", ["--version"])
    assert {"click", "re", "json"} <= found


def test_patience_grows_its_pauses_and_ends(capfd, utc_clock):
    patience = Patience("dsub", 10, utc_clock)
    error = DaemonAway("gone", is_sent=False)
    moments = []
    with pytest.raises(DaemonAway):
        for _ in range(100):
            patience.lost(error, then="x")
            moments.append(round(utc_clock.monotonic(), 3))
    assert moments == [0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 11.3]
    patience.found()
    patience.lost(error, then="x")
    said = capfd.readouterr().err.splitlines()
    assert (
        said
        == ["dsub: dorad does not answer, trying again for 10 s; Ctrl-C to give up (x)"]
        * 2
    )


@pytest.fixture
def utc_clock():
    return FakeClock(datetime(2026, 1, 1, tzinfo=UTC))


def test_patience_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("DORABATCH_PATIENCE_SECONDS", "soon")
    with pytest.raises(UserError, match="is 'soon'; give a number of seconds"):
        Patience("dsub", 10)


def test_a_page_fits_the_terminal():
    body = "\n".join(f"line {number} is long" for number in range(10))
    page = fit_page("heading", body, os.terminal_size((8, 6)))
    assert page == "heading\n\nline 0 i\nline 1 i\n... and \n"
    whole = fit_page("heading", body, os.terminal_size((80, 24)))
    assert whole.count("\n") == 12


def test_only_near_words_are_suggested():
    assert near("--gpu", ["--gpus", "--name"]) == " (did you mean --gpus?)"
    assert near("--qqq", ["--gpus", "--name"]) == ""


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["expire", "ana", "--reason", "x", "--allocation", ""], "allocation"),
        (["grant", "ana", "5", "--reason", "x", "--until", " "], "until"),
        (["refund", "1.1/1", "--reason", "x", "--key", ""], "key"),
        (["balance", ""], "account"),
    ],
)
def test_an_unset_variable_does_not_widen_an_order_on_credit(words, name):
    assert f"{name} is empty; give a value, or leave it out" in refused(
        "dcredit", words
    )


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("dstat", [""], "a REF is empty"),
        ("dprio", [""], "a USER or REF is empty"),
        ("dreport", ["usage", "--account", ""], "--account is empty; give a value"),
        ("dreport", [], "missing argument 'REPORT'. Choose from: statement, "),
    ],
)
def test_what_is_missing_is_one_sentence(name, words, said):
    assert said in refused(name, words)


def test_a_report_needs_the_name_of_a_file(serve):
    serve([TEXT])
    assert "--out is empty or a folder" in refused("dreport", ["usage", "--out", ""])


def refused(name, words):
    """What a command says of a command line that it refuses."""
    code = f"from dorabatch.cmds import front; import sys; sys.exit(front.{name}())"
    argv = [sys.executable, "-c", code, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr
