"""A batch script to the words that run it in a container.

Decides by the script's `#!` line: the interpreter gets the text as an argument, so
no file has to reach the node. It never reads the script from anywhere.
"""

import shlex
from collections.abc import Sequence

from dorabatch.resources.names import quoted

SHELL = "/bin/sh"
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh", "busybox"})
_FLAGS = {
    **dict.fromkeys(_SHELLS, "-c"),
    "python": "-c",
    "python3": "-c",
    "perl": "-e",
    "ruby": "-e",
    "node": "-e",
    "Rscript": "-e",
    "lua": "-e",
    "julia": "-e",
}
"""How each interpreter is given a program as an argument."""


def script_argv(script: str, *, name: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs the script with its arguments, or ValueError."""
    if not script.strip():
        raise ValueError("is empty")
    if "\r\n" in script:
        raise ValueError(
            "has DOS line ends, which no interpreter accepts; convert it with dos2unix"
        )
    interpreter = _interpreter(script)
    program = _program(interpreter)
    flag = _FLAGS.get(program) or _FLAGS.get(program.rstrip("0123456789."))
    if flag is None:
        raise ValueError(
            f"its first line names {quoted(program)}, which cannot be given a script "
            f"here; known: {', '.join(sorted(_FLAGS))}; or give the command after --"
        )
    # A shell takes the first word after the script as $0, the others do not.
    zeroth = [name] if arguments and program in _SHELLS else []
    return [*interpreter, flag, script, *zeroth, *arguments]


def _interpreter(script: str) -> list[str]:
    first = script.split("\n", 1)[0]
    if not first.startswith("#!"):
        return [SHELL]
    try:
        words = shlex.split(first[2:])
    except ValueError:
        words = []
    if not words or not words[0].startswith("/"):
        raise ValueError(
            f"its first line {quoted(first)} names no interpreter; write #!/bin/sh"
        )
    if _last_part(words[0]) == "env" and words[1:2] == ["-S"]:
        del words[1]
    return words


def _program(words: list[str]) -> str:
    """The interpreter's name, behind env where env finds it."""
    name = _last_part(words[0])
    if name == "env":
        rest = [w for w in words[1:] if "=" not in w and not w.startswith("-")]
        name = _last_part(rest[0]) if rest else name
    return name


def _last_part(path: str) -> str:
    return path.rpartition("/")[2]
