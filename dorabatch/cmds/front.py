"""The entry points of all commands: the quick way in, and the way to the full one.

Reads the forms that scripts use by itself; help, completion, mistakes and rare
options go to the click command behind it. Never imports click, json or re.
"""

import os
import sys

from dorabatch.cmds.argv import Unparsed, parse
from dorabatch.cmds.late import load
from dorabatch.cmds.options import command_of
from dorabatch.cmds.terminal import note
from dorabatch.errors import DorabatchError

EXIT_INTERRUPTED = 130


def dsub() -> int:
    """Submit a workload."""
    return quick("dsub", sys.argv[1:])


def dstat() -> int:
    """Show workloads."""
    return quick("dstat", sys.argv[1:])


def dcancel() -> int:
    """Cancel workloads."""
    return quick("dcancel", sys.argv[1:])


def dhold() -> int:
    """Hold workloads."""
    return quick("dhold", sys.argv[1:])


def drelease() -> int:
    """Release held workloads."""
    return quick("drelease", sys.argv[1:])


def dlog() -> int:
    """Print a log."""
    return quick("dlog", sys.argv[1:])


def dnode() -> int:
    """Look after nodes."""
    return full("dnode", sys.argv[1:])


def dshare() -> int:
    """Look at shares and change the policy."""
    return full("dshare", sys.argv[1:])


def dprio() -> int:
    """Show why the queue is in this order."""
    return full("dprio", sys.argv[1:])


def dcredit() -> int:
    """Show and manage credits."""
    return full("dcredit", sys.argv[1:])


def dreport() -> int:
    """Report on a period."""
    return full("dreport", sys.argv[1:])


def dora() -> int:
    """Work with documents of all kinds."""
    return full("dora", sys.argv[1:])


def quick(name: str, words: list[str]) -> int:
    """Run a command, leaving to click what only click knows."""
    try:
        if f"_{name.upper()}_COMPLETE" in os.environ:
            return full(name, words)
        try:
            values = parse(command_of(name), words)
        except Unparsed:
            return full(name, words)
        return int(load(name).run(values))
    except DorabatchError as error:
        note(name, error.message)
        return error.exit_status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def full(name: str, words: list[str]) -> int:
    """Run the click command of a name."""
    try:
        return int(load("full").run(name, words))
    except DorabatchError as error:
        note(name, error.message)
        return error.exit_status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
