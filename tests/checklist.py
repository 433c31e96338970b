"""The checklist page against the tests that it names.

Each row of the page says whether something works and which test shows it; the test
says so too, with `@pytest.mark.mission("M1")`. Reads sources as text: runs no test and
never judges whether a test shows what its row says.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROWS = tuple(f"M{number}" for number in range(1, 88))
WORKS, PARTLY, NOT_YET = "works", "partly", "not yet"
MARKER = "mission"
_LINE = re.compile(r"^\| *(M\S*) *\|(.*)\|$", re.M)
_LINK = re.compile(r"\[(?P<test>[^\]\s]+)\]\((?P<target>[^)\s]+)\)")
_CELLS = 4

Found = Mapping[str, frozenset[str]]
"""Every test, as `tests/path.py::test_name`, with the numbers that it carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the page."""

    number: str
    item: str
    state: str
    tests: str
    missing: str

    @property
    def names(self) -> list[str]:
        """The tests that it names."""
        return [link["test"] for link in _LINK.finditer(self.tests)]


def complaints(page: str, found: Found) -> list[str]:
    """What is wrong with the page or the markers; nothing when both agree."""
    lines = [(hit[1], [c.strip() for c in hit[2].split("|")]) for hit in _hits(page)]
    said = [
        f"{number}: the row has {len(cells) + 1} cells, not {_CELLS + 1}"
        for number, cells in lines
        if len(cells) != _CELLS
    ]
    rows = [
        Row(number=number, item=c[0], state=c[1], tests=c[2], missing=c[3])
        for number, c in lines
        if len(c) == _CELLS
    ]
    said += _numbers([number for number, _ in lines])
    for row in rows:
        said += [
            f"{row.number}: {text}" for text in (*_words(row), *_tests(row, found))
        ]
    return [*said, *_markers(rows, found)]


def marked_tests(root: Path) -> dict[str, frozenset[str]]:
    """Every test function below tests/ and the numbers in its decorators."""
    found: dict[str, frozenset[str]] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        name = path.relative_to(root).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for test, node in _functions(tree, name):
            found[test] = frozenset(_numbers_of(node, test))
        decorators = sum(
            ast.unparse(d).startswith(f"pytest.mark.{MARKER}")
            for _, node in _functions(tree, name)
            for d in node.decorator_list
        )
        if decorators != sum(map(_is_marker, ast.walk(tree))):
            raise ValueError(f"{name}: {MARKER} stands elsewhere than above a test")
    return found


def _is_marker(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == MARKER


def _hits(page: str) -> Iterator[re.Match[str]]:
    return _LINE.finditer(page)


def _numbers(numbers: list[str]) -> list[str]:
    said = [f"{number}: no such row" for number in numbers if number not in ROWS]
    said += [
        f"{number}: stands {numbers.count(number)} times instead of once"
        for number in ROWS
        if numbers.count(number) != 1
    ]
    known = [number for number in numbers if number in ROWS]
    if known != sorted(known, key=ROWS.index):
        said.append("the rows are not in the order of their numbers")
    return said


def _words(row: Row) -> list[str]:
    """What the cells of a row must and must not hold."""
    said = []
    if not row.item:
        said.append("says nothing of what it is about")
    if row.state not in (WORKS, PARTLY, NOT_YET):
        said.append(f"unknown state {row.state!r}")
    if row.state == WORKS and row.missing:
        said.append(f"works, and yet something is missing: {row.missing}")
    if row.state in (PARTLY, NOT_YET) and not row.missing:
        said.append("does not say what is missing")
    if _LINK.sub("", row.tests).replace("<br>", "").strip(" ,"):
        said.append(f"the tests are not all links: {row.tests}")
    return said


def _tests(row: Row, found: Found) -> list[str]:
    """Whether the tests of a row are there, marked, and linked to their file."""
    said = []
    if row.state == NOT_YET and row.names:
        said.append("is not there yet, and names a test")
    if row.state in (WORKS, PARTLY) and not row.names:
        said.append("names no test")
    for link in _LINK.finditer(row.tests):
        test = link["test"]
        if test not in found:
            said.append(f"there is no test {test}")
        elif row.number not in found[test]:
            said.append(f'{test} does not carry {MARKER}("{row.number}")')
        if link["target"] != "../" + test.split("::")[0]:
            said.append(f"{test} is linked to {link['target']}")
    if len(set(row.names)) != len(row.names):
        said.append("names a test twice")
    return said


def _markers(rows: list[Row], found: Found) -> list[str]:
    """Numbers that a test carries and the page does not give it."""
    listed = {(row.number, test) for row in rows for test in row.names}
    return [
        f"{test} carries {number}, and row {number} does not name it"
        for test, numbers in found.items()
        for number in sorted(numbers)
        if (number, test) not in listed
    ]


def _functions(
    node: ast.AST, name: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{name}::{child.name}")
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and child.name.startswith("test_"):
            yield f"{name}::{child.name}", child


def _numbers_of(
    node: ast.FunctionDef | ast.AsyncFunctionDef, test: str
) -> Iterator[str]:
    for one in node.decorator_list:
        called = one.func if isinstance(one, ast.Call) else one
        if ast.unparse(called) != f"pytest.mark.{MARKER}":
            continue
        given = [*one.args, *one.keywords] if isinstance(one, ast.Call) else []
        numbers = [a.value for a in given if isinstance(a, ast.Constant)]
        if not given or len(numbers) != len(given):
            raise ValueError(f"{test}: write {MARKER} with numbers such as 'M1' only")
        yield from map(str, numbers)
