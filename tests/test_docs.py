"""The documents name only what exists: commands, options of the house, links."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)+)`")
FENCE = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)
OF_THE_SYSTEM = {".", "pip", "ssh-keygen", "cd", "export", "git"}
ADR_LINES_MAX = 120
PACKAGE_README_LINES_MAX = 80


def documents() -> list[Path]:
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found += [*(ROOT / "dorabatch").rglob("README.md"), *(ROOT / "changes").glob("*")]
    return sorted(found)


def broken_links(text: str, folder: Path) -> list[str]:
    return [
        target
        for target in LINK.findall(text)
        if "://" not in target and not (folder / target).exists()
    ]


def missing_files(text: str) -> list[str]:
    """Paths in backticks that are no file of the repository."""
    return [path for path in PATH.findall(text) if not (ROOT / path).is_file()]


def unknown_commands(text: str, known: set[str]) -> list[str]:
    """First words of the lines in sh blocks that are nothing we have."""
    unknown = []
    for block in FENCE.findall(text):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] not in known:
                unknown.append(words[0])
    return unknown


def known_commands() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    scripts = {"./" + name for name in ("demo", "test") if (ROOT / name).exists()}
    return {*project["project"]["scripts"], *scripts, *OF_THE_SYSTEM}


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_resolve(path: Path) -> None:
    assert broken_links(path.read_text(), path.parent) == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs/howto").glob("*.md")), ids=lambda p: p.name
)
def test_howtos_name_only_files_that_exist(path: Path) -> None:
    text = path.read_text()
    assert PATH.findall(text)
    assert missing_files(text) == []


def test_readme_names_only_commands_that_exist() -> None:
    assert unknown_commands((ROOT / "README.md").read_text(), known_commands()) == []


@pytest.mark.parametrize("name", ["test", "demo", "scripts/house.sh"])
def test_scripts_are_plain_sh(name: str) -> None:
    done = subprocess.run(
        ["sh", "-n", ROOT / name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["test", "demo", ".ci/run"])
def test_scripts_can_be_executed(name: str) -> None:
    assert (ROOT / name).stat().st_mode & 0o111 == 0o111


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(p.name[:4]) for p in (ROOT / "docs/adr").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("folder", "pattern", "limit"),
    [
        ("docs/adr", "*.md", ADR_LINES_MAX),
        ("dorabatch", "*/README.md", PACKAGE_README_LINES_MAX),
    ],
)
def test_documents_stay_short(folder: str, pattern: str, limit: int) -> None:
    long = [
        str(path)
        for path in (ROOT / folder).glob(pattern)
        if len(path.read_text().splitlines()) > limit
    ]
    assert long == []


def test_readme_settings_exist_with_their_defaults() -> None:
    text = (ROOT / "README.md").read_text()
    table = re.findall(r"^\| `([a-z_.]+)` \|", text, re.M)
    source = (ROOT / "dorabatch/config.py").read_text()
    unknown = [
        name
        for name in table
        if not re.search(rf"^    {name.split('.')[-1]}: ", source, re.M)
    ]
    assert table
    assert unknown == []


def test_the_checks_reject_bad_documents(tmp_path: Path) -> None:
    bad = "[a](no/such.md) and [b](https://example.org) and [c](nor.md#part)\n"
    assert broken_links(bad, tmp_path) == ["no/such.md", "nor.md"]
    assert missing_files("`docs/ARCHITECTURE.md`, `docs/no.md`") == ["docs/no.md"]
    block = "```sh\n# only a comment\ndsub x.yaml\ndsubmit x.yaml  # no\n```\n"
    assert unknown_commands(block, {"dsub"}) == ["dsubmit"]
