"""docs/checklist.md names a test for whatever it says works, and no other."""

from pathlib import Path

import pytest

from tests.checklist import ROWS, complaints, marked_tests

ROOT = Path(__file__).resolve().parent.parent
ONE, TWO = "tests/test_a.py::test_one", "tests/test_a.py::test_two"
FOUND = {ONE: frozenset({"M1", "M2"}), TWO: frozenset()}
LINK = f"[{ONE}](../tests/test_a.py)"
WORKS = f"| M1 | a thing | works | {LINK} |  |"
PARTLY = f"| M2 | a thing | partly | {LINK} | the other half |"
ABSENT = "| {} | a thing | not yet |  | all of it |"
REST = [ABSENT.format(number) for number in ROWS[2:]]
GOOD = "\n".join(["# Page", "", WORKS, PARTLY, *REST, "", "More text.", ""])


def test_the_page_and_the_markers_agree() -> None:
    page = (ROOT / "docs" / "checklist.md").read_text(encoding="utf-8")
    assert complaints(page, marked_tests(ROOT)) == []


def test_a_good_page_has_no_complaint() -> None:
    assert complaints(GOOD, FOUND) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (WORKS, "", "M1: stands 0 times"),
        (WORKS, f"{WORKS}\n{WORKS}", "M1: stands 2 times"),
        (WORKS, f"{PARTLY}\n{WORKS}", "M2: stands 2 times"),
        (f"{WORKS}\n{PARTLY}", f"{PARTLY}\n{WORKS}", "not in the order"),
        ("| M87 |", "| M88 |", "M88: no such row"),
        ("| M87 |", "| M087 |", "M087: no such row"),
        (WORKS, WORKS.replace("works", "Works"), "unknown state 'Works'"),
        (WORKS, WORKS.replace("works", ""), "unknown state ''"),
        (WORKS, WORKS.replace("a thing", ""), "says nothing of what"),
        (WORKS, WORKS.replace(LINK, ""), "M1: names no test"),
        (PARTLY, PARTLY.replace(LINK, ""), "M2: names no test"),
        (PARTLY, PARTLY.replace("the other half", ""), "does not say what is missing"),
        (WORKS, WORKS.replace("|  |", "| a lot |"), "something is missing: a lot"),
        (REST[0], REST[0].replace("all of it", ""), "M3: does not say what"),
        (REST[0], REST[0].replace("|  |", f"| {LINK} |"), "M3: is not there yet, and"),
        (WORKS, WORKS.replace("one]", "none]"), "no test tests/test_a.py::test_none"),
        (WORKS, WORKS.replace("test_a.py::", "test_b.py::"), "there is no test tests"),
        (WORKS, WORKS.replace("one]", "two]"), 'test_two does not carry mission("M1")'),
        (WORKS, WORKS.replace("one]", "two]"), "test_one carries M1, and row M1"),
        (WORKS, WORKS.replace("(../", "(../../"), "is linked to ../../tests"),
        (WORKS, WORKS.replace("(../tests/test_a", "(../tests/test_b"), "is linked to"),
        (WORKS, WORKS.replace(LINK, f"{LINK} and more"), "are not all links"),
        (WORKS, WORKS.replace(LINK, ONE), "are not all links"),
        (WORKS, WORKS.replace(LINK, f"{LINK}<br>{LINK}"), "names a test twice"),
        (WORKS, WORKS.replace("a thing", "a | thing"), "M1: the row has 6 cells"),
        (WORKS, WORKS.replace("|  |", "|"), "M1: the row has 4 cells"),
    ],
)
def test_a_broken_page_is_refused(old: str, new: str, said: str) -> None:
    assert GOOD.count(old) == 1
    found = complaints(GOOD.replace(old, new), FOUND)
    assert any(said in one for one in found), found


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"M3"}, "test_two carries M3, and row M3 does not name it"),
        ({"M1"}, "test_two carries M1, and row M1 does not name it"),
        ({"M99"}, "test_two carries M99, and row M99 does not name it"),
        ({"m1"}, "test_two carries m1, and row m1 does not name it"),
    ],
)
def test_a_marker_that_the_page_does_not_know_is_refused(
    numbers: set[str], said: str
) -> None:
    found = {**FOUND, TWO: frozenset(numbers)}
    assert complaints(GOOD, found) == [f"tests/test_a.py::{said}"]


def test_an_empty_page_is_refused_row_by_row() -> None:
    assert len(complaints("", {})) == len(ROWS)


SOURCE = """
import pytest

@pytest.mark.mission("M1", "M2")
@pytest.mark.parametrize("a", [1])
def test_one(a): ...

def test_two(): ...

def helper(): ...

class TestIt:
    @pytest.mark.mission("M3")
    def test_three(self): ...
"""


def write(root: Path, text: str) -> None:
    (root / "tests" / "unit").mkdir(parents=True)
    (root / "tests" / "unit" / "test_x.py").write_text(text)


def test_markers_are_read_from_the_source(tmp_path: Path) -> None:
    write(tmp_path, SOURCE)
    assert marked_tests(tmp_path) == {
        "tests/unit/test_x.py::test_one": {"M1", "M2"},
        "tests/unit/test_x.py::test_two": frozenset(),
        "tests/unit/test_x.py::TestIt::test_three": {"M3"},
    }


@pytest.mark.parametrize(
    "marker", ["", "()", "(NUMBERS)", "(*NUMBERS)", '("M1", row="M2")', '("M1", M2)']
)
def test_a_marker_that_cannot_be_read_is_refused(tmp_path: Path, marker: str) -> None:
    write(tmp_path, f"@pytest.mark.mission{marker}\ndef test_one(): ...\n")
    with pytest.raises(ValueError, match="test_one: write mission with numbers"):
        marked_tests(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        'pytestmark = pytest.mark.mission("M1")\ndef test_one(): ...\n',
        'ONE = pytest.param(1, marks=pytest.mark.mission("M1"))\n',
        '@pytest.mark.mission("M1")\ndef helper(): ...\n',
        '@mark.mission("M1")\ndef test_one(): ...\n',
    ],
)
def test_a_marker_that_is_above_no_test_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ValueError, match=r"test_x.py: mission stands elsewhere"):
        marked_tests(tmp_path)
