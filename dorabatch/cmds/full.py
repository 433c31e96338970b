"""Run the click command of a name, and say what is wrong in one sentence.

Never reads the option table or talks to the daemon itself.
"""

from importlib.metadata import PackageNotFoundError, version

import click

from dorabatch.cmds.dcredit import dcredit
from dorabatch.cmds.dnode import dnode
from dorabatch.cmds.dora import dora
from dorabatch.cmds.dprio import dprio
from dorabatch.cmds.dreport import dreport
from dorabatch.cmds.dshare import dshare
from dorabatch.cmds.generated import TableCommand
from dorabatch.cmds.options import command_of
from dorabatch.cmds.suggest import near
from dorabatch.cmds.terminal import EXIT_BROKEN_PIPE, note

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def click_command(name: str) -> click.Command:
    """The click command of a name."""
    groups: dict[str, click.Command] = {
        "dcredit": dcredit,
        "dnode": dnode,
        "dora": dora,
        "dprio": dprio,
        "dreport": dreport,
        "dshare": dshare,
    }
    command = groups.get(name) or TableCommand(command_of(name))
    if not any(param.name == "version" for param in command.params):
        command.params.append(_version_option(name))
    return command


def run(name: str, words: list[str]) -> int:
    """Run it; returns the exit status."""
    command = click_command(name)
    try:
        status = command.main(args=words, prog_name=name, standalone_mode=False)
    except click.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        note(name, describe_mistake(name, error))
        return EXIT_USAGE
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    return status if isinstance(status, int) else 0


def describe_mistake(name: str, error: click.ClickException) -> str:
    """One sentence: what is wrong, and the likely right word."""
    where = name
    if isinstance(error, click.UsageError) and error.ctx is not None:
        where = error.ctx.command_path
    if isinstance(error, click.NoSuchOption):
        known = _flags(error.ctx)
        wrong = error.option_name
        return f"no option {wrong}{near(wrong, known)}; see {where} --help"
    if isinstance(error, click.UsageError) and error.message.startswith("No such comm"):
        known = _subcommands(error.ctx)
        wrong = error.message.split("'")[1]
        return f"no command {wrong}{near(wrong, known)}; see {where} --help"
    message = " ".join(error.format_message().split()).rstrip(".")
    if message[:1].isupper() and message[1:2].islower():
        message = message[0].lower() + message[1:]
    return f"{message}; see {where} --help"


def _flags(ctx: click.Context | None) -> list[str]:
    if ctx is None:
        return []
    return [flag for param in ctx.command.get_params(ctx) for flag in param.opts]


def _subcommands(ctx: click.Context | None) -> list[str]:
    if ctx is None or not isinstance(ctx.command, click.Group):
        return []
    return ctx.command.list_commands(ctx)


def _version_option(name: str) -> click.Option:
    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=lambda ctx, _param, value: _print_version(ctx, name, is_asked=value),
        help="Print the version and exit.",
    )


def _print_version(ctx: click.Context, name: str, *, is_asked: bool) -> None:
    if not is_asked or ctx.resilient_parsing:
        return
    try:
        number = version("dorabatch")
    except PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"{name} {number}")
    ctx.exit(0)
