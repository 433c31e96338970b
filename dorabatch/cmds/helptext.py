"""Click commands whose help has examples, notes, exit statuses and the environment.

Lays out help and what the manual says alike. Never talks to the daemon.
"""

from typing import Any

import click

Example = tuple[str, str]

EXIT_STATUSES = (
    ("0", "done"),
    ("1", "it failed for another reason; the message says which"),
    ("2", "the command line or the document is wrong, or it is not allowed"),
    ("3", "the record changed or has ended meanwhile; look again and retry"),
    ("4", "a node did not do what it was asked to"),
    ("5", "a setting of the daemon is wrong"),
    ("6", "the daemon does not answer"),
    ("70", "a bug in the daemon"),
    ("130", "ended by Ctrl-C"),
    ("141", "the reader of the output went away"),
)
SOCKET_VARIABLE = (
    "DORABATCH_SOCKET",
    "the daemon's socket, if not /run/dorabatch/dorad.sock",
)
PATIENCE_VARIABLE = (
    "DORABATCH_PATIENCE_SECONDS",
    "how long to wait for a daemon that is away: 30 to submit, 600 to wait or follow",
)


class Documented(click.Command):
    """A command with examples and notes."""

    def __init__(
        self, *args: Any, examples: tuple[Example, ...] = (), notes: str = "", **kw: Any
    ) -> None:
        super().__init__(*args, **kw)
        self.examples = examples
        self.notes = notes

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what follows the options."""
        write_sections(self, formatter, is_top=ctx.parent is None)


class DocumentedGroup(Documented, click.Group):
    """A group of commands with examples and notes."""

    command_class = Documented


def write_sections(
    command: Documented,
    formatter: click.HelpFormatter,
    *,
    is_top: bool,
) -> None:
    """Write examples, notes, exit statuses and the environment."""
    if command.examples:
        with formatter.section("Examples"):
            for text, line in command.examples:
                formatter.write(f"  # {text}\n  {line}\n")
    if command.notes:
        with formatter.section("Notes"):
            for number, paragraph in enumerate(command.notes.split("\n")):
                if number:
                    formatter.write_paragraph()
                formatter.write_text(paragraph)
    if is_top:
        with formatter.section("Exit status"):
            formatter.write_dl(list(exit_statuses(command.name or "")))
        with formatter.section("Environment"):
            formatter.write_dl([SOCKET_VARIABLE, *extra_variables(command.name or "")])


def exit_statuses(name: str) -> list[Example]:
    """What the exit status of a command says."""
    if name != "dsub":
        return list(EXIT_STATUSES)
    text = (
        "with --wait or --follow, the exit code of the workload; 1 when it ended"
        " without one (cancelled, out of credits, node lost)"
    )
    return [*EXIT_STATUSES, ("other", text)]


def extra_variables(name: str) -> list[Example]:
    """The variables that only some commands read."""
    if name == "dsub":
        text = "options of the workload, such as DSUB_IMAGE; see the notes"
        return [PATIENCE_VARIABLE, ("DSUB_*", text)]
    return [PATIENCE_VARIABLE] if name == "dlog" else []
