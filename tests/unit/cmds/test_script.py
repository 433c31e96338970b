"""Telling scripts from documents, and reading #DSUB lines."""

import pytest

from dorabatch.cmds.argv import Unparsed
from dorabatch.cmds.script_file import is_yaml, script_options, split_words
from dorabatch.errors import UserError


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.yaml", "#!/bin/sh\n", True),
        ("a.yml", "anything", True),
        ("a.json", "{}", True),
        ("a", "apiVersion: v1\n", True),
        ("a", "# says\n\n---\nkind: Zone\n", True),
        ("a", '{"kind": "Zone"}', True),
        ("a", "#!/usr/bin/env python\nkind: x", False),
        ("a.sh", "#DSUB --gpus 1\necho\n", False),
        ("a", "# says\n\n#DSUB\n", False),
    ],
)
def test_documents_and_scripts(path, text, expected):
    assert is_yaml(path, text) is expected


@pytest.mark.parametrize("text", ["echo", "# only words", "#DSUBBED", "\n#DSUB"[:1]])
def test_what_is_neither_is_refused(text):
    with pytest.raises(UserError, match=r"^a is neither a YAML document nor a script"):
        is_yaml("a", text)


def test_lines_are_read_up_to_the_first_command():
    text = "#!/bin/sh\n\n #DSUB --gpus 9\n#DSUBX\n#DSUB --gpus 1\n# x\n\t\n"
    text += "set -e\n#DSUB --gpus 2\n"
    assert script_options("a", text) == {"gpus": "1"}


def test_later_lines_win_and_lists_grow():
    text = "#DSUB --gpus=1 -e A=1\n#DSUB --gpus 2 -e B=2 --wait\n"
    found = script_options("a", text)
    assert found == {"gpus": "2", "env": ["A=1", "B=2"], "wait": True}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  a\tb ", ["a", "b"]),
        ("a 'b c' \"d e\"", ["a", "b c", "d e"]),
        ("--x='a b'c", ["--x=a bc"]),
        ("''", [""]),
        (r"a\ b \# \'", ["a b", "#", "'"]),
        (r"'a\b' " + r'"a\"b\n\\"', [r"a\b", r'a"b\n\\'.replace("\\\\", "\\")]),
        ("a # b c", ["a"]),
        ("a#b", ["a#b"]),
    ],
)
def test_words_are_split_as_a_shell_does(line, words):
    assert split_words(line) == words


@pytest.mark.parametrize("line", ["'a", '"a', "a\\", "'"])
def test_what_is_not_closed_is_refused(line):
    with pytest.raises(Unparsed):
        split_words(line)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("--gpu 2", "a:2: no option --gpu (did you mean --gpus?)"),
        ("--qqqqqqqq", "a:2: no option --qqqqqqqq; see dsub --help"),
        ("--name", "a:2: option --name needs a value"),
        ("--notify=1", "a:2: option --notify takes no value"),
        ("x", "a:2: 'x' is not an option"),
        ("--parsable", "a:2: --parsable works on the command line only"),
    ],
)
def test_mistakes_name_the_line(line, problem):
    with pytest.raises(UserError) as caught:
        script_options("a", f"#!/bin/sh\n#DSUB {line}\n")
    assert caught.value.message.startswith(problem)
