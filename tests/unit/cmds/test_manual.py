"""The manual that is checked in is what the commands say now."""

from pathlib import Path

import pytest

from dorabatch.cmds.manual import (
    NAMES,
    entries,
    main,
    options,
    render_man,
    render_markdown,
)

ROOT = Path(__file__).resolve().parents[3]
AGAIN = "run python -m dorabatch.cmds.manual docs/commands.md, and again with man"


def test_the_page_is_current():
    assert (ROOT / "docs" / "commands.md").read_text() == render_markdown(), AGAIN


@pytest.mark.parametrize("name", NAMES)
def test_the_man_page_is_current(name):
    assert (ROOT / "man" / f"{name}.1").read_text() == render_man(name), AGAIN


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_examples_and_every_option_a_meaning(name):
    for ctx, entry in entries(name):
        assert entry.examples, ctx.command_path
        assert all(text for _, text in options(ctx)), ctx.command_path
        for _, line in entry.examples:
            assert name in line


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_a_man_page_is_taken_for_a_request(name):
    known = {"TH", "SH", "B", "BR", "TP", "PP", "RS", "RE", "nf", "fi"}
    for line in render_man(name).splitlines():
        assert not line.startswith("'")
        if line.startswith("."):
            assert line[1:].split(" ")[0] in known


def test_it_writes_files(tmp_path, capfd):
    assert main([str(tmp_path / "a.md")]) == 0
    assert main([str(tmp_path / "man")]) == 0
    assert main([]) == main(["--help"]) == 2
    assert (tmp_path / "a.md").read_text() == render_markdown()
    assert {path.stem for path in (tmp_path / "man").iterdir()} == set(NAMES)
    assert capfd.readouterr().out.startswith("usage:")
