"""Click commands made from the option table: dsub, dstat, dcancel and others.

Gives them help, completion and messages. Never defines an option of its own.
"""

from typing import Any

import click

from dorabatch.cmds.argv import Value, Values, split_tail
from dorabatch.cmds.helptext import Documented
from dorabatch.cmds.late import load
from dorabatch.cmds.options import Command
from dorabatch.resources.option import COUNT, FLAG, MANY, MAYBE, SWITCH, Option

WATCH_SECONDS = "2"
COUNT_MAX = 999_999_999
OPERANDS = "operands"
TAIL = "dorabatch.tail"


class TableCommand(Documented):
    """A command of the table."""

    def __init__(self, table: Command) -> None:
        self.table = table
        word, limit = table.operands
        metavar = f"[{word}]..." if limit < 0 else f"[{word}]"
        metavar += " [-- COMMAND...]" if table.name == "dsub" else ""
        super().__init__(
            table.name,
            callback=self._run,
            params=[
                click.Argument([OPERANDS], nargs=-1, metavar=metavar),
                *[click_option(option) for option in table.options],
            ],
            help=table.text,
            examples=table.examples,
            notes=table.notes,
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what follows `--` for the container, in dsub."""
        if self.table.name == "dsub":
            args, ctx.meta[TAIL] = split_tail(args)
        rest = super().parse_args(ctx, args)
        words = ctx.params[OPERANDS]
        if 0 <= self.table.operands[1] < len(words):
            raise click.UsageError(_too_many(self.table, " ".join(words)), ctx)
        return rest

    def values(self, ctx: click.Context) -> Values:
        """What was given, as the quick parser would tell it."""
        given: dict[str, Value] = {}
        for option in self.table.options:
            value = ctx.params[option.key]
            if option.kind == MANY:
                value = list(value)
            is_absent = value is False and option.kind != SWITCH
            if value is not None and not is_absent and value != []:
                given[option.key] = value
        return Values(given, list(ctx.params[OPERANDS]), ctx.meta.get(TAIL))

    def _run(self, **_params: Any) -> int:
        values = self.values(click.get_current_context())
        return int(load(self.table.name).run(values))


def click_option(option: Option) -> click.Option:
    """The click option of one row of the table."""
    names = [*option.flags, option.key]
    if option.kind == FLAG:
        return click.Option(names, is_flag=True, default=False, help=option.help)
    if option.kind == SWITCH:
        no, yes = option.flags
        return click.Option([f"{yes}/{no}", option.key], default=None, help=option.help)
    if option.kind == MAYBE:
        return click.Option(
            names,
            is_flag=False,
            flag_value=WATCH_SECONDS,
            metavar=option.metavar,
            help=option.help,
        )
    is_count = option.kind == COUNT
    return click.Option(
        names,
        multiple=option.kind == MANY,
        type=whole_number if is_count else click.STRING,
        metavar=option.metavar,
        help=option.help,
    )


def whole_number(text: str) -> int:
    """Read a number from 0 on, or say what is wrong."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= COUNT_MAX:
        raise click.BadParameter(f"'{text}' is not a whole number")
    return number


def _too_many(table: Command, words: str) -> str:
    if table.name == "dsub":
        return (
            f"'{words}' is more than one file; put -- before a command"
            " or before the arguments of a script"
        )
    return f"'{words}' is more than one {table.operands[0]}; give one"
