"""The measures of the house hold over all of dorabatch/, save for a shrinking list."""

from pathlib import Path

import grimp
import pytest

from tests import structure, tidy
from tests.ratchet import Allowed, judge

ROOT = Path(__file__).resolve().parent.parent
HOUSE = structure.HOUSE

# (rule, house, subject) -> in how many places it is today. As in test_tidy.py, an entry
# that is no longer needed, or larger than needed, fails: this may shrink, never grow.
ALLOWED: Allowed = {}
RULES = {
    "file-name-twice": structure.repeated_files,
    "class-name-twice": structure.repeated_classes,
    "usual-function": structure.lengthy_functions,
    "takes-a-bag": structure.taken_bags,
}


@pytest.fixture(scope="module")
def sources() -> list[tidy.Source]:
    """Every module of the package."""
    return tidy.read_sources(ROOT, HOUSE)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Who imports what in the package, and from outside."""
    return grimp.build_graph(HOUSE, include_external_packages=True, cache_dir=None)


@pytest.mark.parametrize("rule", RULES)
def test_measure_holds(rule: str, sources: list[tidy.Source]) -> None:
    allowed = {key: size for key, size in ALLOWED.items() if key[0] == rule}
    complaints = judge(RULES[rule](sources), allowed)
    assert not complaints, "\n".join(complaints)


def test_every_exception_names_a_measure() -> None:
    assert {key[0] for key in ALLOWED} <= set(RULES)


def test_modules_called_pure_reach_nothing_outside(
    sources: list[tidy.Source], graph: grimp.ImportGraph
) -> None:
    forbidden = structure.forbidden_modules(HOUSE)
    found = structure.impure_modules(sources, graph, forbidden)
    assert not found, "\n".join(map(str, found))


def test_purity_is_asked_of_modules_that_are_there(
    sources: list[tidy.Source], graph: grimp.ImportGraph
) -> None:
    """A name that has moved away would be forbidden to nobody."""
    pure = structure.pure_modules(sources)
    assert pure
    assert {*pure, *(f"{HOUSE}.{name}" for name in structure.INSIDE)} <= graph.modules
