"""Plants one bug in a copy of the checkout and runs there what should find it.

Never touches the checkout itself.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent.parent
COPIED = ("dorabatch", "tests", "bench", "etc", "scripts", "docs", "pyproject.toml")
_LEFT = shutil.ignore_patterns("__pycache__", "*.pyc")
_SECONDS_MAX = 900


def simulation(*scenarios: str, seeds: str = "0-7") -> tuple[str, ...]:
    """Lives of these scenarios, or of all, until a law is broken."""
    chosen = [word for name in scenarios for word in ("--scenario", name)]
    return ("tests.simulation", "--processes", "1", "--seeds", seeds, *chosen)


def tests_of(*paths: str) -> tuple[str, ...]:
    """These test files, until one test fails."""
    return ("pytest", "-q", "-x", "-p", "no:cacheprovider", *paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One bug: `old` stands in the file exactly once, and `new` for it.

    `by`: the runs that should find it, the simulation where it can.
    """

    name: str
    file: str
    old: str
    new: str
    by: tuple[tuple[str, ...], ...] = (simulation("usual", "tried", "limited"),)

    def planted(self, text: str) -> str:
        """The file with the bug; ValueError where it has changed too much."""
        count = text.count(self.old)
        if count != 1:
            raise ValueError(
                f"bug {self.name!r}: {self.file} has what is to be replaced {count} "
                "times, not once; say it anew in tests/planted/bugs.py"
            )
        return text.replace(self.old, self.new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What found a bug, and with which words; empty where nothing did."""

    found_by: str
    words: str


def find(bug: Bug | None) -> Finding:
    """Run what should find a bug, one after the other; None: nothing is planted."""
    runs = bug.by if bug else (simulation(seeds="0-3"),)
    with copied() as place:
        if bug is not None:
            file = place / bug.file
            file.write_text(bug.planted(file.read_text()))
        for words in runs:
            done = _run(place, words)
            if done.returncode:
                return Finding(found_by=words[0], words=_first_words(done))
    return Finding(found_by="", words="")


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the checkout, for as long as it is used."""
    with TemporaryDirectory(prefix="dora-planted-") as folder:
        place = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, place / name, ignore=_LEFT)
            else:
                shutil.copy2(source, place / name)
        yield place


def _run(place: Path, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    # A compiled file of the right code would be taken for that of the planted one.
    alone = {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", *words]
    try:
        return subprocess.run(
            command,
            cwd=place,
            env={**os.environ, **alone},
            capture_output=True,
            text=True,
            timeout=_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # What hangs has been found too.
        return subprocess.CompletedProcess(command, 1, "  it never ends", "")


def _first_words(done: subprocess.CompletedProcess[str]) -> str:
    """The first law that was broken, or the first complaint."""
    lines = done.stdout.splitlines()
    for at, line in enumerate(lines):
        if "after step" in line:
            told = "\n".join(lines[at + 1 :]).partition("\nwhat happened last")[0]
            return told.strip().splitlines()[-1 if "Traceback" in told else 0].strip()
    complaints = [one for one in lines if one.startswith(("E  ", "FAILED", "ERROR"))]
    return (complaints or [*lines[-1:], *done.stderr.splitlines()[-1:], ""])[0].strip()
