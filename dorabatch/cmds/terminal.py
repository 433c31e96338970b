"""Write to standard output and error, whole and unbuffered, and ask questions.

Never talks to the daemon.
"""

import os
import sys
from _collections_abc import Iterable

from dorabatch.errors import UserError

EXIT_BROKEN_PIPE = 141  # what a shell reports for a reader that went away


def write_out(data: bytes) -> None:
    """Write all of it to standard output; the command ends if nobody reads it."""
    try:
        _write_all(1, data)
    except BrokenPipeError:
        raise SystemExit(EXIT_BROKEN_PIPE) from None


def stream_out(pieces: Iterable[bytes]) -> None:
    """Write each piece as soon as it is there."""
    for piece in pieces:
        write_out(piece)


def say(text: str) -> None:
    """Print a line on standard output."""
    write_out(f"{text}\n".encode("utf-8", "surrogateescape"))


def note(command: str, text: str) -> None:
    """Print a line on standard error, under the name of the command."""
    try:
        _write_all(2, f"{command}: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return  # nobody reads it; the exit status still tells


def warn(command: str, warnings: Iterable[str]) -> None:
    """Print what the daemon wants said beside its answer."""
    for text in warnings:
        note(command, f"warning: {text}")


def confirm(command: str, question: str, *, instead: str) -> bool:
    """Ask on the terminal; refuse, naming what to do instead, where there is none."""
    if not (os.isatty(0) and os.isatty(2)):
        raise UserError(f"{question} There is no terminal to ask on: {instead}")
    _write_all(2, f"{command}: {question} [y/N] ".encode())
    reply = sys.stdin.readline()
    if not reply:
        _write_all(2, b"\n")
    return reply.strip().lower() in {"y", "yes"}


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            # A terminal shared with a program that made it non-blocking.
            os.set_blocking(descriptor, True)
