"""dsub as users run it: what it sends, prints and returns."""

import json

import pytest

SCRIPT = """#!/bin/sh
#DSUB --image ubuntu --gpus 1
#DSUB --env A=1 --env 'B=two words'   # a comment

# another comment
#DSUB --time 2h
echo hello
#DSUB --gpus 9
"""


def test_a_document_is_sent_as_it_is(peer):
    text = "kind: Workload\nmetadata: {name: a}\n"
    (peer.home / "job.yaml").write_text(text)
    assert peer.run("dsub", "job.yaml") == (0, "Submitted workload 12\n", "")
    body = peer.last()["body"]
    key = body.pop("submission_key")
    assert len(key) == 32
    assert body == {"manifest": text, "path": "job.yaml"}
    assert peer.last()["query"] == "render=id"


def test_a_command_in_an_image(peer):
    argv = [
        "dsub",
        "--parsable",
        "-G2",
        "--gpu-model",
        "Tesla V100",
        "--gpu-model=A",
        "--image",
        "ubuntu",
        "--name",
        'ü "q"\n',
        "--notify",
        "--",
        "sh",
        "-c",
        "a b",
    ]
    assert peer.run(*argv) == (0, "12\n", "")
    assert peer.last()["body"]["options"] == {
        "name": 'ü "q"\n',
        "image": "ubuntu",
        "gpus": "2",
        "gpu_models": ["Tesla V100", "A"],
        "notify": True,
        "cmd": ["sh", "-c", "a b"],
    }


def test_a_script_its_lines_and_its_arguments(peer):
    (peer.home / "train.sh").write_text(SCRIPT)
    status, out, err = peer.run(
        "dsub", "train.sh", "-e", "C=3", "--", "--epochs", "3", DSUB_GPUS="4"
    )
    assert (status, out, err) == (0, "Submitted workload 12\n", "")
    body = peer.last()["body"]
    assert body["path"] == "train.sh"
    assert body["options"] == {
        "image": "ubuntu",
        "gpus": "4",
        "env": ["A=1", "B=two words", "C=3"],
        "time": "2h",
        "script": SCRIPT,
        "cmd": ["--epochs", "3"],
    }


def test_the_command_line_wins_over_the_environment(peer):
    (peer.home / "train.sh").write_text(SCRIPT)
    peer.run("dsub", "train.sh", "--gpus", "5", DSUB_GPUS="4", DSUB_NODE="a, b")
    options = peer.last()["body"]["options"]
    assert (options["gpus"], options["nodes"]) == ("5", ["a", "b"])


def test_standard_input(peer):
    status, out, _ = peer.run("dsub", "-", stdin="# x\nkind: Workload\n\tname: a\n")
    assert (status, out) == (0, "Submitted workload 12\n")
    assert peer.last()["body"]["path"] == "<stdin>"


def test_a_warning_goes_to_standard_error(peer):
    status, out, err = peer.run("dsub", "-", stdin="kind: Workload\n\tname: a\n")
    assert (status, out) == (0, "Submitted workload 12\n")
    assert err == "dsub: warning: tabs are 8 columns\n"


@pytest.mark.parametrize(
    ("argv", "stdin", "message"),
    [
        (["none.sh"], "", "cannot read none.sh: no such file or directory"),
        (["."], "", "cannot read .: is a directory"),
        (["-"], "", "standard input is empty; give a YAML document or a script"),
        (["-"], "print(1)\n", "standard input is neither a YAML document nor a script"),
        (
            ["-"],
            "#!/bin/sh\n#DSUB --gpu 2\n",
            "standard input:2: no option --gpu (did you mean --gpus?)",
        ),
        (
            ["-"],
            "#!/bin/sh\n\n#DSUB --gpus\n",
            "standard input:3: option --gpus needs a value",
        ),
        (
            ["-"],
            "#!/bin/sh\n#DSUB --name 'a\n",
            "standard input:2: a quote ' is opened",
        ),
        (["-"], "#!/bin/sh\n#DSUB 2\n", "standard input:2: '2' is not an option"),
        (
            ["-"],
            "#!/bin/sh\n#DSUB --parsable\n",
            "standard input:2: --parsable works on the command line only",
        ),
        (["-"], "#!/bin/sh\r\necho\r\n", "standard input has the line ends of Windows"),
        (
            ["-", "--gpus", "2"],
            "kind: Workload\n",
            "<stdin> is a YAML document, which says everything itself: --gpus cannot",
        ),
        ([], "", "nothing to run: give a FILE"),
        (["--", "ls"], "", "a command needs an image to run in"),
        (["python", "train.py"], "", "'python train.py' is more than one file; put --"),
        (["--gpu", "2"], "", "no option --gpu (did you mean --gpus?); see dsub --help"),
        (["--image", "a", "--gpus", "two"], "", "option --gpus: 'two' is not a whole"),
        (["--image", "a\udcff"], "", "'a\\udcff' is not UTF-8 text"),
    ],
)
def test_mistakes_are_said_in_one_sentence(peer, argv, stdin, message):
    status, out, err = peer.run("dsub", *argv, stdin=stdin)
    assert (status, out) == (2, "")
    assert err.startswith(f"dsub: {message}")
    assert err.count("\n") == 1


def test_what_is_not_text_or_too_large_is_refused(peer):
    (peer.home / "a.yaml").write_bytes(b"kind: a\nname: \xff\n")
    assert peer.run("dsub", "a.yaml")[2] == (
        "dsub: a.yaml:2: this is not UTF-8 text (byte 0xff)\n"
    )
    (peer.home / "a.yaml").write_bytes(b"a" * (1024 * 1024 + 1))
    assert peer.run("dsub", "a.yaml")[2].startswith("dsub: a.yaml is larger than 1024")
    (peer.home / "a.yaml").write_bytes(b"a" * (1024 * 1024))
    assert peer.run("dsub", "a.yaml")[0] == 0


@pytest.mark.parametrize(
    ("end", "status", "note"),
    [
        ({"outcome": "done", "exit_code": 0}, 0, ""),
        (
            {"outcome": "failed", "exit_code": 3},
            3,
            "dsub: workload 12 ended: failed, exit code 3\n",
        ),
        (
            {"outcome": "cancelled", "exit_code": None},
            1,
            "dsub: workload 12 ended: cancelled\n",
        ),
    ],
)
@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_the_exit_code_is_that_of_the_workload(peer, how, end, status, note):
    (peer.home / "12.log").write_text("hello\n")
    (peer.home / "12.end").write_text(json.dumps(end))
    log = "hello\n" if how == "--follow" else ""
    expected = (status, f"Submitted workload 12\n{log}", note)
    assert peer.run("dsub", how, "-", stdin="kind: Workload\n") == expected
