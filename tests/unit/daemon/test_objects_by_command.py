"""Nodes, zones and moments as people type them, against the daemon's own API."""

import pytest

from tests.unit.daemon.test_share_commands import Shell, settings, shell

__all__ = ["settings", "shell"]

WORKSPACE = "apiVersion: v1\nkind: Workspace\nmetadata:\n  name: {name}\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--name", "Bad name"), "--name 'Bad name' is not a name: use 1 to 63"),
        (
            ("--allow", "Everything"),
            "--allow: must be 'CPUWorkload' or 'GPUWorkload', not",
        ),
        (("--user", "no one"), "--user: "),
        (("--zone", "z9"), "zone: 'z9' is not served here"),
    ],
)
def test_a_node_is_checked_before_its_key_is_looked_at(
    shell: Shell, options: tuple[str, ...], sentence: str
) -> None:
    # Nothing answers on this port: whoever looked at the key would say so.
    where = ("dnode", "add", "127.0.0.1", "--port", "1")
    said = shell.run(*where, *options, "--yes", status=2)
    assert sentence in said
    assert "127.0.0.1:1" in shell.run(*where, "--name", "n1", "--yes", status=4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--from", "2100-01-01"),
            "2100-01-01T00:00:00+00:00: is in the future",
        ),
        (("--until", "2000-01-01"), "is before the last 30 days; say with --from"),
        (("--from", "soon"), "--from 'soon': is no moment; write 2026-07-01"),
    ],
)
def test_a_statement_says_which_moment_is_wrong(
    shell: Shell, options: tuple[str, ...], sentence: str
) -> None:
    assert sentence in shell.run("dcredit", "statement", *options, status=2)


def test_the_zone_of_the_daemon_is_listed_without_a_document(shell: Shell) -> None:
    zone = shell.parts.books.settings.zone
    heads, row = shell.run("dora", "get", "zones").splitlines()
    assert heads.split() == ["NAME", "OWNER", "SPEC", "CREATED_AT"]
    assert row.split() == [zone, "-", "{}", "-"]
    said = shell.run("dora", "delete", "zone", zone, status=3)
    assert "is the one that this dorad serves" in said
    path = shell.parts.books.settings.state_dir / "zone.yaml"
    path.write_text(f"apiVersion: v1\nkind: Zone\nmetadata:\n  name: {zone}\n")
    shell.run("dora", "apply", "-f", str(path))
    (declared,) = shell.rows("dora", "get", "zones")
    assert declared["owner"] is not None
    shell.run("dora", "delete", "zone", zone)
    assert [row["name"] for row in shell.rows("dora", "get", "zones")] == [zone]
