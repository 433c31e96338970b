"""Each measure of the house finds what it is there to find, and passes what is fine."""

import textwrap
from pathlib import Path

import grimp
import pytest

from tests import structure, tidy


def source(path: str, code: str = "") -> tidy.Source:
    return tidy.parse_source(path, textwrap.dedent(code))


def function_of(lines: int, name: str = "long") -> str:
    return f"def {name}():\n" + "    a = 1\n" * (lines - 1)


# -- names and lengths -----------------------------------------------------------


def test_a_file_name_may_be_there_once() -> None:
    paths = ("a/x.py", "b/c/x.py", "a/y.py", "a/__init__.py", "b/__init__.py")
    (found,) = structure.repeated_files([source(path) for path in paths])
    assert (found.rule, found.subject, found.size) == ("file-name-twice", "x.py", 2)
    assert "a/x.py, b/c/x.py" in str(found)


def test_a_class_name_may_be_there_once() -> None:
    one = source("a/x.py", "class A:\n    class _B: ...\nclass C: ...\n")
    other = source("a/y.py", "class A: ...\ndef f():\n    class _B: ...\n")
    found = structure.repeated_classes([one, other])
    assert [(seen.subject, seen.size) for seen in found] == [("A", 2), ("_B", 2)]
    assert "a/x.py:1, a/y.py:1" in str(found[0])
    assert structure.repeated_classes([one]) == []


def test_most_functions_are_short() -> None:
    short = source("a/x.py", function_of(25) * 95)
    few, many = (source("a/y.py", function_of(60) * count) for count in (5, 6))
    assert structure.usual_lines([short, few]) == 25
    assert structure.lengthy_functions([short, few]) == []
    (found,) = structure.lengthy_functions([short, many])
    assert found.size == 60
    assert "6 have more" in str(found)
    assert structure.lengthy_functions([]) == []


# -- bags ------------------------------------------------------------------------

PARTS = """
    import threading
    from collections.abc import Callable, Mapping
    from dataclasses import dataclass
    from enum import StrEnum
    from pathlib import Path
    from typing import Annotated, Literal, NamedTuple, Protocol

    import pydantic
    from sqlalchemy import Engine


    class Desk: ...


    @dataclass
    class Loose:
        number: int


    class Line(Protocol):
        def say(self) -> str: ...


    @dataclass(frozen=True)
    class Value:
        number: int
        other: "Value | None"


    @dataclass(frozen=True)
    class Holder:
        desk: Desk


    class Pair(NamedTuple):
        first: Value
        second: Value


    class Color(StrEnum):
        RED = "red"


    class Shade(Color): ...


    class Settings(pydantic.BaseModel):
        number: int
"""
SEVEN = """
    a: Desk
    b: Mapping[int, Loose]
    c: "Line | None"
    d: Holder
    e: Engine
    f: threading.Event
    g: Callable[[], None]
"""
SIX = SEVEN.replace("    g: Callable[[], None]\n", "    _g: Callable[[], None]\n")
VALUES = """
    a: Value
    b: Mapping[int, Pair]
    c: Color
    d: Settings
    e: Path
    f: Annotated[str, "no [annotation"]
    g: Literal["Desk"]
    h: Shade
    i: tuple[int, ...]
"""


def bags(code: str) -> dict[str, tuple[str, ...]]:
    parts = textwrap.dedent(PARTS)
    return structure.House([source("a/x.py", parts + textwrap.dedent(code))]).bags()


@pytest.mark.parametrize("head", ["@dataclass\nclass Bag:", "class Bag(Protocol):"])
def test_a_bag_has_many_parts(head: str) -> None:
    assert bags(head + SEVEN) == {"a.x.Bag": tuple("abcdefg")}
    assert bags(head + SIX) == {}
    assert bags(head + VALUES) == {}


def test_a_frozen_bag_is_a_bag() -> None:
    assert set(bags("@dataclass(frozen=True)\nclass Bag:" + SEVEN)) == {"a.x.Bag"}


def test_what_is_inherited_counts() -> None:
    code = "class Half:" + SIX + "class Whole(Half):\n    h: Desk\n"
    assert bags(code) == {"a.x.Whole": tuple("abcdefh")}


def test_what_a_constructor_keeps_in_public_counts() -> None:
    names = "abcdefg"
    given = ", ".join(f"{name}: Desk" for name in names)
    kept = "".join(f"        self.{name} = {name}\n" for name in names)
    code = f"class Bag:\n    def __init__(self, {given}):\n"
    assert set(bags(code + kept)) == {"a.x.Bag"}
    assert bags(code + kept.replace("self.", "self._")) == {}
    typed = "".join(f"        self.{name}: Desk = {name}\n" for name in names)
    assert set(bags("class Bag:\n    def __init__(self):\n" + typed)) == {"a.x.Bag"}


def test_what_properties_give_away_counts() -> None:
    code = "class Bag:\n" + "".join(
        f"    @property\n    def {name}(self) -> Desk: ...\n" for name in "abcdefg"
    )
    assert set(bags(code)) == {"a.x.Bag"}
    assert bags(code.replace("@property", "@staticmethod")) == {}


def test_who_takes_a_bag_is_counted_wherever_it_is_imported_from() -> None:
    bag = source("a/x.py", textwrap.dedent(PARTS) + "class Bag:" + SEVEN)
    users = source(
        "b/y.py",
        """
        from dataclasses import dataclass

        from a import x
        from a.x import Bag as Sack


        def plain(sack: Sack) -> None: ...
        def quoted(*, sack: "Sack | None" = None) -> None: ...
        async def starred(*sacks: x.Bag) -> Sack: ...


        @dataclass
        class Keeps:
            sack: list[Sack]
        """,
    )
    other = source(
        "b/z.py", "class Bag: ...\ndef f(bag: Bag, desk: int) -> None: ...\n"
    )
    (found,) = structure.taken_bags([bag, users, other])
    assert (found.subject, found.size) == ("Bag", 4)
    for part in ("a.x.Bag", "7 parts: a, b, c", "b/y.py:8", "b/y.py:10"):
        assert part in str(found)
    assert structure.taken_bags([bag, other]) == []


# -- purity ----------------------------------------------------------------------

PURE = '"""Adds. Pure: writes nothing."""\n'


def test_purity_is_said_in_the_head() -> None:
    sources = [
        source("h/a.py", PURE),
        source("h/b.py", '"""Purely a name; never pure."""\n'),
        source("h/c/__init__.py", '"""All in here is kept so.\n\nPure.\n"""\n'),
        source("h/c/d.py"),
        source("h/cd.py"),
        source("h/e.py", 'A = """Pure."""\n'),
    ]
    assert structure.pure_modules(sources) == ["h.a", "h.c", "h.c.d"]


def test_purity_is_broken_through_other_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "__init__.py": "",
        "adds.py": PURE + "from impurehouse import numbers\n",
        "numbers.py": "from impurehouse.folders import home\n",
        "folders.py": "import os.path\n\nhome = os.path\n",
        "asks.py": PURE + "from impurehouse.db.engine import run\n",
        "db/__init__.py": "",
        "db/engine.py": "run = 1\n",
        "fine.py": PURE + "import math\n\nfrom impurehouse import words\n",
        "words.py": "import re\n",
    }
    for name, text in files.items():
        file = tmp_path / "impurehouse" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    graph = grimp.build_graph(
        "impurehouse", include_external_packages=True, cache_dir=None
    )
    forbidden = structure.forbidden_modules("impurehouse")
    sources = tidy.read_sources(tmp_path, "impurehouse")
    found = structure.impure_modules(sources, graph, forbidden)
    assert [(seen.path, seen.subject) for seen in found] == [
        ("impurehouse/adds.py", "os"),
        ("impurehouse/asks.py", "impurehouse.db.engine"),
    ]
    chain = "impurehouse.adds -> impurehouse.numbers -> impurehouse.folders -> os"
    assert chain in str(found[0])
