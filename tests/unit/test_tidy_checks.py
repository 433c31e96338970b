"""Each house rule rejects what it is there to reject, and passes what is fine."""

import textwrap

import pytest

from tests import tidy
from tests.ratchet import judge

STATED = '"""Adds numbers; never reads the clock."""\n'


def found_by(rule: str, code: str, path: str = "dorabatch/sums.py") -> list[str]:
    source = tidy.parse_source(path, STATED + textwrap.dedent(code))
    return [seen.rule for seen in tidy.CHECKS[rule](source)]


def function_of(lines: int, docstring: str = "") -> str:
    body = "".join(f"    a{number} = {number}\n" for number in range(lines - 1))
    return f"def long():\n{docstring}{body}"


BAD = {
    "long-function": [
        function_of(61),
        "class A:\n" + textwrap.indent(function_of(61), "    "),
        function_of(70).replace("def", "async def"),
    ],
    "long-file": ["a = 1\n" * 500],
    "deep-nesting": [
        """
        def deep(rows):
            for row in rows:
                if row:
                    with row:
                        while row:
                            try:
                                row.go()
                            except KeyError:
                                pass
        """,
        """
        def deep(a):
            match a:
                case 1:
                    if a:
                        if a:
                            if a:
                                if a:
                                    return 1
        """,
        """
        def deep(a):
            try:
                pass
            except KeyError:
                if a:
                    pass
                elif b:
                    for c in b:
                        if c:
                            if a:
                                pass
        """,
    ],
    "local-import": [
        "def f():\n    import os\n",
        "class A:\n    def f(self):\n        if self:\n            from a import b\n",
    ],
    "mutable-default": [
        "def f(a=[]): ...\n",
        "def f(*, a={}): ...\n",
        "def f(a, b=set()): ...\n",
        "async def f(a=[x for x in ()]): ...\n",
        "class A:\n    def f(self, a=collections.deque()): ...\n",
    ],
    "broad-except": [
        "try:\n    a = 1\nexcept:\n    pass\n",
        "try:\n    a = 1\nexcept Exception:\n    pass\n",
        "try:\n    a = 1\nexcept (KeyError, BaseException) as e:\n    pass\n",
        "def f():\n    try:\n        a()\n    except b.Exception:\n        pass\n",
    ],
    "loose-dataclass": [
        "@dataclass\nclass A: ...\n",
        "@dataclass(frozen=True, slots=True)\nclass A: ...\n",
        "@a.dataclass(frozen=True, slots=False, kw_only=True)\nclass A: ...\n",
    ],
    "unfinished-word": [
        "# TO" + "DO: later\n",
        "a = 1  # for" + " now\n",
        '"""A simpli' + 'fied copy."""\n',
    ],
    "machine-path": ['A = "/' + 'work/main"\n', "# see /" + "work\n"],
    "type-checking": [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import os\n",
        "import typing\nif typing.TYPE_CHECKING:\n    import os\n",
    ],
    "wall-clock": [
        "def f():\n    return datetime.now(UTC)\n",
        "def f():\n    return dt.datetime.now()\n",
        "a = time.time()\n",
    ],
}

GOOD = {
    "long-function": [
        function_of(60),
        function_of(60, '    """One.\n\n    Two.\n    """\n'),
    ],
    "long-file": ["a = 1\n" * 499],
    "deep-nesting": [
        """
        def flat(a):
            if a == 1:
                return 1
            elif a == 2:
                return 2
            elif a == 3:
                return 3
            elif a == 4:
                return 4
            elif a == 5:
                return 5
            else:
                return 6
        """
    ],
    "local-import": ["import os\ntry:\n    import x\nexcept ImportError:\n    x = 1\n"],
    "mutable-default": ["def f(a=(), b=None, c=frozenset()): ...\n"],
    "broad-except": ["try:\n    a = 1\nexcept (KeyError, OSError):\n    pass\n"],
    "loose-dataclass": [
        "@dataclass(frozen=True, slots=True, kw_only=True)\nclass A: ...\n",
        "@total_ordering\nclass A: ...\n",
    ],
    "unfinished-word": ["# A method that does all it says.\n"],
    "machine-path": ['A = "/v1/workloads"\n', "B = 'home/" + "work'\n"],
    "type-checking": ["from typing import Any\n"],
    "wall-clock": ["def f(now):\n    return now + time.monotonic()\n"],
}


@pytest.mark.parametrize(
    ("rule", "code"), [(rule, code) for rule, codes in BAD.items() for code in codes]
)
def test_bad_code_is_rejected(rule: str, code: str) -> None:
    assert set(found_by(rule, code)) == {rule}


@pytest.mark.parametrize(
    ("rule", "code"), [(rule, code) for rule, codes in GOOD.items() for code in codes]
)
def test_good_code_passes(rule: str, code: str) -> None:
    assert found_by(rule, code) == []


@pytest.mark.parametrize(
    "text", ["a = 1\n", '"""Adds numbers."""\na = 1\n', "# a comment\nb = 2\n"]
)
def test_module_without_a_full_docstring_is_rejected(text: str) -> None:
    source = tidy.parse_source("dorabatch/sums.py", text)
    assert len(tidy.module_docstrings(source)) == 1


@pytest.mark.parametrize("text", ["", STATED + "a = 1\n"])
def test_empty_or_described_module_passes(text: str) -> None:
    assert tidy.module_docstrings(tidy.parse_source("dorabatch/sums.py", text)) == []


@pytest.mark.parametrize(
    "path", ["dorabatch/utils.py", "dorabatch/common/a.py", "dorabatch/queue/misc.py"]
)
def test_vague_names_are_rejected(path: str) -> None:
    assert found_by("vague-name", "a = 1\n", path) == ["vague-name"]
    assert found_by("vague-name", "a = 1\n", "dorabatch/queue/states.py") == []


def test_every_rule_has_bad_input() -> None:
    assert set(BAD) | {"module-docstring", "vague-name"} == set(tidy.CHECKS)


def test_ratchet_refuses_new_grown_and_unneeded_exceptions() -> None:
    source = tidy.parse_source("dorabatch/sums.py", STATED + function_of(70))
    found = tidy.long_functions(source)
    key = ("long-function", "dorabatch/sums.py", "long")
    assert judge(found, {key: 70}) == []
    assert len(judge(found, {})) == 1
    assert len(judge(found, {key: 69})) == 1
    assert "shrink" in judge(found, {key: 71})[0]
    assert "remove it" in judge([], {key: 70})[0]
    other = tidy.broad_excepts(
        tidy.parse_source("a.py", STATED + BAD["broad-except"][0])
    )
    assert judge(other, {("broad-except", "a.py", "<module>"): 0}) == []
    assert len(judge(other, {})) == 1


def test_nested_function_counts_for_itself() -> None:
    code = "def outer():\n" + textwrap.indent(function_of(61), "    ")
    source = tidy.parse_source("a.py", STATED + code)
    subjects = [seen.subject for seen in tidy.long_functions(source)]
    assert subjects == ["outer", "outer.long"]
