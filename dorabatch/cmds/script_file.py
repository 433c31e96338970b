"""Read what dsub was given: a YAML document or a script with #DSUB lines.

Reads files as the user who submits, so that the daemon never has to. Never sends,
and never looks into YAML: the daemon does.
"""

import os

from dorabatch.cmds.argv import Unparsed, Value, parse_options
from dorabatch.cmds.dsub_options import DSUB
from dorabatch.cmds.late import load
from dorabatch.errors import UserError

FILE_BYTES_MAX = 1 << 20
DIRECTIVE = "#DSUB"
YAML_ENDINGS = (".yaml", ".yml", ".json")
YAML_BEGINNINGS = ("apiVersion:", "kind:", "metadata:", "---", "%YAML", "{")
SPACE = " \t"
QUOTES = "'\""


def read_text(path: str, *, most: int = FILE_BYTES_MAX) -> str:
    """The text of a file, or of standard input for `-`."""
    name = "standard input" if path == "-" else path
    try:
        data = _read_bytes(path, most)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot read {name}: {reason}") from error
    if len(data) > most:
        raise UserError(
            f"{name} is larger than {most // 1024} KiB; put data on a volume or into"
            " the image"
        )
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{name}:{line}: this is not UTF-8 text (byte 0x{data[error.start]:02x})"
        ) from error
    if not text.strip():
        raise UserError(f"{name} is empty; give a YAML document or a script")
    return text


def _read_bytes(path: str, most: int) -> bytes:
    descriptor = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    pieces: list[bytes] = []
    size = 0
    try:
        while size <= most and (piece := os.read(descriptor, 65536)):
            pieces.append(piece)
            size += len(piece)
    finally:
        if descriptor:
            os.close(descriptor)
    return b"".join(pieces)


def is_yaml(path: str, text: str) -> bool:
    """Tell a YAML document (True) from a script (False), or refuse."""
    if path.endswith(YAML_ENDINGS):
        return True
    if text.startswith("#!"):
        return False
    head = header_lines(text)
    if any(is_directive(line) for line in head):
        return False
    rest = text.split("\n")[len(head) :]
    if rest and rest[0].startswith(YAML_BEGINNINGS):
        return True
    name = "standard input" if path == "-" else path
    raise UserError(
        f"{name} is neither a YAML document nor a script: begin a script with #! and"
        " the program that runs it, such as #!/bin/sh, or name a document"
        " something.yaml"
    )


def header_lines(text: str) -> list[str]:
    """The blank lines and comments before the first line that is neither."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        bare = line.strip()
        if bare and bare[0] != "#":
            return lines[:number]
    return lines


def is_directive(line: str) -> bool:
    """Whether a line holds options for dsub."""
    return line.startswith(DIRECTIVE) and line[len(DIRECTIVE) :][:1] in ("", *SPACE)


def script_options(path: str, text: str) -> dict[str, Value]:
    """The options in the #DSUB lines of a script."""
    name = "standard input" if path == "-" else path
    if "\r\n" in text:
        raise UserError(
            f"{name} has the line ends of Windows, which no interpreter on a node"
            " understands; convert it, for example with dos2unix"
        )
    given: dict[str, Value] = {}
    for number, line in enumerate(header_lines(text), start=1):
        if not is_directive(line):
            continue
        try:
            _add_line(given, line[len(DIRECTIVE) :])
        except Unparsed as error:
            hint = load("suggest").near_flag(DSUB, str(error))
            raise UserError(f"{name}:{number}: {error}{hint}") from error
    return given


def _add_line(given: dict[str, Value], line: str) -> None:
    """Add the options of one #DSUB line to those of the lines before."""
    found, words = parse_options(DSUB, split_words(line))
    if words:
        raise Unparsed(
            f"'{words[0]}' is not an option; a #DSUB line holds only options, with"
            " quotes around values that have spaces"
        )
    for key, value in found.items():
        option = DSUB.by_flag["--" + key.replace("_", "-")]
        if not option.in_script:
            raise Unparsed(f"{option.flags[-1]} works on the command line only")
        earlier = given.get(key)
        if isinstance(earlier, list) and isinstance(value, list):
            given[key] = earlier + value
        else:
            given[key] = value


def split_words(line: str) -> list[str]:
    """Split a line as a shell does: quotes, backslashes, and # for a comment."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    rest = iter(line)
    for char in rest:
        if char == "\\" and quote != "'":
            word = (word or "") + _escaped(next(rest, None), quote)
        elif quote:
            word = word or ""
            if char == quote:
                quote = ""
            else:
                word += char
        elif char in QUOTES:
            word, quote = word or "", char
        elif char in SPACE:
            if word is not None:
                words.append(word)
            word = None
        elif char == "#" and word is None:
            break
        else:
            word = (word or "") + char
    if quote:
        raise Unparsed(f"a quote {quote} is opened and not closed")
    return words if word is None else [*words, word]


def _escaped(char: str | None, quote: str) -> str:
    if char is None:
        raise Unparsed("a backslash at the end of the line")
    if quote and char not in ('"', "\\", "$", "`"):
        return "\\" + char
    return char
