"""Write the manual of all commands from their definitions: Markdown or man pages.

`python -m dorabatch.cmds.manual docs/commands.md` writes the one,
`python -m dorabatch.cmds.manual man` the others. Never says what help does not say.
"""

import sys
from pathlib import Path

import click

from dorabatch.cmds.full import click_command
from dorabatch.cmds.helptext import (
    EXIT_STATUSES,
    SOCKET_VARIABLE,
    Documented,
    DocumentedGroup,
    Example,
    exit_statuses,
    extra_variables,
)
from dorabatch.cmds.terminal import say

NAMES = (
    "dsub",
    "dstat",
    "dcancel",
    "dhold",
    "drelease",
    "dlog",
    "dnode",
    "dshare",
    "dprio",
    "dcredit",
    "dreport",
    "dora",
)
INTRODUCTION = """# Commands

Made from the commands themselves by `python -m dorabatch.cmds.manual
docs/commands.md`; change the definitions in `dorabatch/cmds`, not this file.

| command | what it does |
|---|---|
"""
COMPLETION = """
## Completion

Put one of these into the start-up file of your shell, for each command:

```
eval "$(_DSUB_COMPLETE=bash_source dsub)"     # bash, in ~/.bashrc
eval "$(_DSUB_COMPLETE=zsh_source dsub)"      # zsh, in ~/.zshrc
_DSUB_COMPLETE=fish_source dsub | source      # fish, in ~/.config/fish/config.fish
```
"""

Entry = Documented | DocumentedGroup


def entries(name: str) -> list[tuple[click.Context, Entry]]:
    """A command and, when it is a group, the commands in it."""
    command = click_command(name)
    top = click.Context(command, info_name=name)
    found = [(top, command)]
    if isinstance(command, click.Group):
        for child in command.list_commands(top):
            below = command.commands[child]
            found.append((click.Context(below, info_name=child, parent=top), below))
    return [(ctx, one) for ctx, one in found if isinstance(one, Entry)]


def usage(ctx: click.Context) -> str:
    """The line that shows how a command is called."""
    return " ".join([ctx.command_path, *ctx.command.collect_usage_pieces(ctx)])


def options(ctx: click.Context) -> list[Example]:
    """The options with what they do, as help shows them."""
    params = [p for p in ctx.command.get_params(ctx) if isinstance(p, click.Option)]
    records = [param.get_help_record(ctx) for param in params]
    return [record for record in records if record is not None]


def render_markdown() -> str:
    """The whole manual as one page."""
    tops = [entries(name) for name in NAMES]
    lines = [
        f"| [{name}](#{name}) | {top[0][1].help} |\n"
        for name, top in zip(NAMES, tops, strict=True)
    ]
    sections = [_markdown(ctx, entry) for top in tops for ctx, entry in top]
    statuses = [f"| {status} | {text} |\n" for status, text in EXIT_STATUSES]
    tail = ["\n## Exit status\n\n| status | means |\n|---|---|\n", *statuses]
    return "".join([INTRODUCTION, *lines, *sections, *tail, COMPLETION])


def _markdown(ctx: click.Context, entry: Entry) -> str:
    level = "##" if ctx.parent is None else "###"
    parts = [
        f"\n{level} {ctx.command_path}\n\n{entry.help}\n\n```\n{usage(ctx)}\n```\n"
    ]
    rows = [f"| `{flags}` | {_cell(text)} |\n" for flags, text in options(ctx)]
    parts += ["\n| option | meaning |\n|---|---|\n", *rows]
    if entry.examples:
        shown = [f"# {text}\n{line}\n" for text, line in entry.examples]
        parts += ["\n```\n", *shown, "```\n"]
    parts += [f"\n{paragraph}\n" for paragraph in _paragraphs(entry)]
    if ctx.parent is None:
        parts += [f"\nExit status {k}: {text}.\n" for k, text in _own_statuses(ctx)]
        pairs = [SOCKET_VARIABLE, *extra_variables(ctx.info_name or "")]
        parts += ["\nEnvironment:\n\n", *[f"- `{k}`: {text}\n" for k, text in pairs]]
    return "".join(parts)


def _own_statuses(ctx: click.Context) -> list[Example]:
    return [row for row in exit_statuses(ctx.info_name or "") if row[0] == "other"]


def _paragraphs(entry: Entry) -> list[str]:
    return entry.notes.split("\n") if entry.notes else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def render_man(name: str) -> str:
    """The man page of one command."""
    (top, entry), *below = entries(name)
    lines = [
        f'.TH {name.upper()} 1 "" dorabatch "dorabatch commands"',
        ".SH NAME",
        f"{name} \\- {_roff((entry.help or '').rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_roff(usage(top))}",
        ".SH OPTIONS",
        *_man_pairs(options(top)),
    ]
    for ctx, one in below:
        lines += [f'.SH "{ctx.command_path.upper()}"', _roff(one.help or "")]
        lines += [".PP", f".B {_roff(usage(ctx))}", *_man_pairs(options(ctx))]
        lines += _man_text(one)
    lines += [".SH NOTES", *_man_text(entry), ".SH EXIT STATUS"]
    lines += _man_pairs(exit_statuses(name))
    lines += [".SH ENVIRONMENT"]
    lines += _man_pairs([SOCKET_VARIABLE, *extra_variables(name)])
    others = [f".BR {other} (1)" for other in NAMES if other != name]
    lines += [".SH SEE ALSO", *others]
    return "\n".join(lines) + "\n"


def _man_pairs(pairs: list[Example]) -> list[str]:
    return [
        line
        for head, text in pairs
        for line in (".TP", f".B {_roff(head)}", _roff(text))
    ]


def _man_text(entry: Entry) -> list[str]:
    lines: list[str] = []
    for paragraph in _paragraphs(entry):
        lines += [".PP", _roff(paragraph)]
    for text, line in entry.examples:
        lines += [".PP", f"{_roff(text)}:", ".PP", ".RS", ".nf", _roff(line)]
        lines += [".fi", ".RE"]
    return lines


def _roff(text: str) -> str:
    """Escape a text so that troff prints it as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped[:1] in {".", "'"} else escaped


def main(paths: list[str]) -> int:
    """Write the page to a file that ends in .md, man pages to a directory."""
    if len(paths) != 1 or paths[0].startswith("-"):
        say("usage: python -m dorabatch.cmds.manual FILE.md | DIRECTORY")
        return 2
    path = Path(paths[0])
    if path.suffix == ".md":
        path.write_text(render_markdown())
        return 0
    path.mkdir(exist_ok=True)
    for name in NAMES:
        (path / f"{name}.1").write_text(render_man(name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
