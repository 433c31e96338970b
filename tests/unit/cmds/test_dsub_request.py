"""What dsub sends: the command line over the environment over #DSUB lines."""

import pytest

from dorabatch.cmds.argv import Unparsed, Values, parse
from dorabatch.cmds.dsub import build, from_environment, job_options, merge
from dorabatch.cmds.dsub_options import DSUB
from dorabatch.errors import UserError


def test_precedence():
    merged = merge(
        {"name": "s", "image": "s", "gpus": "s"},
        {"DSUB_IMAGE": "e", "DSUB_GPUS": "e"},
        {"gpus": "c"},
    )
    assert merged == {"name": "s", "image": "e", "gpus": "c"}


def test_lists_are_replaced_and_variables_added():
    merged = merge(
        {"node": ["s"], "env": ["A=s"]},
        {"DSUB_NODE": "e, f,", "DSUB_ENV": "A=e,1\n\nB=e"},
        {"env": ["A=c"]},
    )
    assert merged["node"] == ["e", "f"]
    assert merged["env"] == ["A=s", "A=e,1", "B=e", "A=c"]


@pytest.mark.parametrize(("text", "given"), [("1", True), ("YES", True), ("0", None)])
def test_switches_in_the_environment(text, given):
    assert from_environment({"DSUB_NOTIFY": text}).get("notify") is given


@pytest.mark.parametrize(("text", "given"), [("on", True), ("no", False)])
def test_what_may_be_denied_too_keeps_its_no(text, given):
    assert from_environment({"DSUB_RESTARTABLE": text}) == {"restartable": given}


def test_the_last_of_yes_and_no_counts_and_the_command_line_first():
    words = ["--restartable", "--image", "a", "--no-restartable"]
    values = parse(DSUB, words)
    assert values.given == {"image": "a", "restartable": False}
    assert build(values, {"DSUB_RESTARTABLE": "1"}).body == {
        "options": {"image": "a", "restartable": False}
    }
    with pytest.raises(Unparsed, match="--restartable takes no value"):
        parse(DSUB, ["--no-restartable=1"])
    with pytest.raises(UserError, match=r"yaml is a YAML document.*--restartable"):
        build(Values({"restartable": False}, ["etc/examples/concept-minimal.yaml"]), {})


def test_a_switch_that_is_neither_on_nor_off_is_refused():
    with pytest.raises(UserError, match="DSUB_NOTIFY is 'maybe'; set it to 1 or 0"):
        from_environment({"DSUB_NOTIFY": "maybe"})


def test_only_what_makes_the_workload_is_read_from_the_environment():
    assert from_environment({"DSUB_WAIT": "1", "DSUB_PARSABLE": "1"}) == {}


def test_the_names_that_the_daemon_knows():
    """A daemon of another version reads them, so none may go."""
    given = {option.key: "x" for option in DSUB.options}
    assert set(job_options(given)) >= {
        "name", "image", "gpus", "gpu_models", "gpu_share", "cpus", "memory",
        "replicas", "affinity", "restart", "pull", "shm_size", "env", "workdir",
        "time", "nodes", "zone", "workspace", "network", "ports", "volumes", "notify",
            "nice", "qos", "restartable",
    }  # fmt: skip
    assert not {"wait", "follow", "parsable", "quote", "json"} & set(job_options(given))


@pytest.mark.parametrize("text", ["2", "two", "-1", "2" * 12])
def test_what_was_typed_is_sent_as_it_is(text):
    assert job_options({"gpus": text}) == {"gpus": text}


def test_an_image_alone_runs_what_it_is_made_for():
    submission = build(Values({"image": "a"}, []), {})
    assert submission.body == {"options": {"image": "a"}}
