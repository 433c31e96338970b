"""The way of one submission to RUNNING enters no more modules than it may."""

import json
import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from dorabatch.daemon.service import Daemon
from dorabatch.db import Writer
from dorabatch.queue import board, store, transitions
from dorabatch.resources import workload
from scripts.main_path import is_function, path_of

ROOT = Path(__file__).resolve().parent.parent
MODULES_MAX = 116
MUST_BE_THERE = {
    one.removeprefix("dorabatch.")
    for one in (
        Daemon.__module__,
        Writer.__module__,
        board.__name__,
        store.__name__,
        transitions.__name__,
        workload.__name__,
    )
}
WINGS = {"daemon", "queue", "placer", "fairshare", "node", "resources"}
CODE = '''
class Sums:
    """A class body is no function."""

    def add(self, rows):
        return [row + 1 for row in rows]

    both = lambda self: (row for row in ())
'''


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the command prints; in a process of its own, where no cache is warm."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.main_path", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def test_the_main_path_enters_few_modules(found: dict[str, Any]) -> None:
    assert found["modules"] <= MODULES_MAX, json.dumps(found["packages"], indent=1)


def test_the_main_path_goes_through_what_it_must(found: dict[str, Any]) -> None:
    modules = {
        name if package == "dorabatch" else f"{package}.{name}"
        for package, inside in found["packages"].items()
        for name in inside
    }
    assert modules >= MUST_BE_THERE
    assert set(found["wings"]) >= WINGS
    assert len(modules) == found["modules"]
    assert found["functions"] >= found["modules"]


def test_functions_count_once_by_their_file() -> None:
    here = [*codes_of(compile(CODE, "/house/queue/sums.py", "exec"))]
    there = [*codes_of(compile(CODE, "/elsewhere/sums.py", "exec"))]
    names = [code.co_name for code in here if is_function(code)]
    assert names == ["add", "<lambda>"]
    assert {"<module>", "Sums", "<genexpr>"} <= {code.co_name for code in here}
    path = path_of([*here, *there], Path("/house"))
    assert dict(path.functions) == {"queue.sums": 2}
    assert path.packages() == {"queue": {"sums": 2}}


def codes_of(code: CodeType) -> list[CodeType]:
    """A code and all code inside."""
    inside = [one for one in code.co_consts if isinstance(one, CodeType)]
    return [code, *(deep for one in inside for deep in codes_of(one))]
