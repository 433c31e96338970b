"""The quick parser and click read the same words alike, and JSON is JSON."""

import json

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.cmds import dcancel, dhold, dlog, drelease, dstat, dsub
from dorabatch.cmds.argv import Unparsed, Values, parse
from dorabatch.cmds.generated import TAIL, TableCommand
from dorabatch.cmds.jsontext import encode_json
from dorabatch.cmds.options import NAMES, Command, command_of
from dorabatch.cmds.script_file import split_words
from dorabatch.errors import UserError
from dorabatch.resources.option import COUNT, FLAG, MAYBE, SWITCH, Option

BUILDERS = {
    "dsub": lambda values: dsub.build(values, {}).body,
    "dstat": dstat.build,
    "dcancel": dcancel.build,
    "dlog": dlog.build,
    "dhold": dhold.build,
    "drelease": drelease.build,
}
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
ODD_WORDS = st.sampled_from(
    ["-", "--", "-x", "--x", "--gpus=", "--al", "-a1", "-fn", "--no-header=1", "-n"]
)


def click_values(command: Command, words: list[str]) -> Values:
    """What click reads; click.UsageError when it refuses."""
    full = TableCommand(command)
    ctx = full.make_context(command.name, list(words))
    assert TAIL in ctx.meta or command.name != "dsub"
    return full.values(ctx)


def quick_values(command: Command, words: list[str]) -> Values | None:
    try:
        return parse(command, list(words))
    except Unparsed:
        return None


def request(name: str, values: Values) -> object:
    """The request, or the sentence that refuses it."""
    try:
        return BUILDERS[name](values)
    except UserError as error:
        return error.message


def words_of(option: Option) -> st.SearchStrategy[list[str]]:
    """An option as people write it: long or short, the value apart or attached."""
    flags = st.sampled_from(option.flags)
    if option.kind in (FLAG, SWITCH):
        return flags.map(lambda flag: [flag])
    value = st.integers(0, 10**9 - 1).map(str) if option.kind == COUNT else TEXTS
    apart = st.tuples(flags, value).map(list)
    long = st.tuples(st.just(option.flags[-1]), value).map(
        lambda pair: ["=".join(pair)]
    )
    if len(option.flags) == 1:
        return apart | long
    nonempty = value.filter(lambda text: text != "")
    return apart | long | nonempty.map(lambda text: [option.flags[0] + text])


def right_lines(command: Command) -> st.SearchStrategy[list[str]]:
    """Command lines that are as they should be."""
    quick = [option for option in command.options if option.kind != MAYBE]
    option = st.sampled_from(quick).flatmap(words_of)
    operand = TEXTS.filter(lambda text: text[:1] != "-" or text == "-").map(
        lambda text: [text]
    )
    most = 3 if command.operands[1] < 0 else command.operands[1]
    pieces = st.tuples(
        st.lists(option, max_size=5), st.lists(operand, max_size=most)
    ).flatmap(lambda both: st.permutations(both[0] + both[1]))
    return pieces.map(lambda found: [word for piece in found for word in piece])


def any_lines(command: Command) -> st.SearchStrategy[list[str]]:
    """Command lines right and wrong."""
    flags = st.sampled_from(sorted(command.by_flag))
    word = flags | TEXTS | ODD_WORDS | st.tuples(flags, TEXTS).map("=".join)
    return st.lists(word, max_size=6)


@pytest.mark.parametrize("name", NAMES)
def test_right_lines_make_the_same_request(name, tmp_path, monkeypatch):
    command = command_of(name)
    monkeypatch.chdir(tmp_path)

    @settings(max_examples=150, deadline=None)
    @given(right_lines(command))
    def check(words):
        quick = quick_values(command, words)
        assert quick is not None, "what is right must not need click"
        full = click_values(command, words)
        assert (quick.given, quick.operands) == (full.given, full.operands)
        assert quick.tail == full.tail
        if "-" not in quick.operands or name != "dsub":
            assert request(name, quick) == request(name, full)

    check()


@pytest.mark.parametrize("name", NAMES)
def test_what_click_refuses_is_never_taken(name):
    command = command_of(name)

    @settings(max_examples=400, deadline=None)
    @given(any_lines(command))
    def check(words):
        quick = quick_values(command, words)
        if quick is None:
            return
        full = click_values(command, words)
        assert (quick.given, quick.operands) == (full.given, full.operands)

    check()


def test_the_comparison_would_notice():
    """A parser that knew another option would be caught by the properties above."""
    other = Command(
        "dlog", "", ("REF", 1), (Option("-f --follows", FLAG, ""),), examples=()
    )
    quick = quick_values(other, ["-f"])
    assert quick is not None
    assert quick.given != click_values(command_of("dlog"), ["-f"]).given
    with pytest.raises(click.NoSuchOption):
        click_values(command_of("dlog"), ["--follows"])


@given(st.lists(TEXTS.filter(lambda text: "'" not in text)))
def test_quoted_words_come_back(words):
    assert split_words(" ".join(f"'{word}'" for word in words)) == words


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


@given(VALUES)
def test_json_is_read_back(value):
    assert json.loads(encode_json(value)) == value


@given(st.text(st.characters(categories=["Cs"]), min_size=1))
def test_what_is_not_text_is_refused(text):
    with pytest.raises(UserError, match="is not UTF-8 text"):
        encode_json({"name": f"a{text}b"})
