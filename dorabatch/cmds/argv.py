"""Read the words of a command line into values, quickly and strictly.

Knows the forms that scripts use and raises Unparsed for all others, so that click
can answer them. Imports the option tables only and never prints or exits.
"""

from dorabatch.cmds.options import Command
from dorabatch.resources.option import COUNT, FLAG, MANY, MAYBE, SWITCH, Option

Value = str | int | bool | list[str]


class Unparsed(Exception):
    """The words are not in a form that is read here; the text says which and why."""


class Values:
    """The options and operands that were given, and nothing else."""

    __slots__ = ("given", "operands", "tail")

    def __init__(
        self,
        given: dict[str, Value],
        operands: list[str],
        tail: list[str] | None = None,
    ) -> None:
        self.given = given
        self.operands = operands
        self.tail = tail

    def text(self, key: str) -> str | None:
        """The value of an option that takes one, or None."""
        value = self.given.get(key)
        return value if isinstance(value, str) else None

    def count(self, key: str) -> int | None:
        """The value of an option that takes a number, or None."""
        value = self.given.get(key)
        return value if isinstance(value, int) else None

    def flag(self, key: str) -> bool:
        """Whether an option without a value was given."""
        return self.given.get(key) is True

    def many(self, key: str) -> list[str]:
        """All values of an option that may be repeated."""
        value = self.given.get(key)
        return value if isinstance(value, list) else []


def split_tail(words: list[str]) -> tuple[list[str], list[str] | None]:
    """Cut the words at the first `--`: what is ours, and the command or None."""
    if "--" not in words:
        return words, None
    cut = words.index("--")
    return words[:cut], words[cut + 1 :]


def parse(command: Command, words: list[str]) -> Values:
    """Read a whole command line."""
    tail = None
    if command.name == "dsub":
        words, tail = split_tail(words)
    elif "--" in words:
        raise Unparsed("--")
    given, operands = parse_options(command, words)
    limit = command.operands[1]
    if 0 <= limit < len(operands):
        raise Unparsed(f"too many words: {' '.join(operands)}")
    return Values(given, operands, tail)


def parse_options(
    command: Command, words: list[str]
) -> tuple[dict[str, Value], list[str]]:
    """Sort words into options with their values and operands, in any order."""
    given: dict[str, Value] = {}
    operands: list[str] = []
    rest = iter(words)
    for word in rest:
        if word[:1] != "-" or word == "-":
            operands.append(word)
            continue
        option, attached = _split_word(command, word)
        if option.kind in (FLAG, SWITCH):
            if attached is not None:
                raise Unparsed(f"option {option.flags[-1]} takes no value")
            given[option.key] = option.kind == FLAG or word[:5] != "--no-"
            continue
        text = attached if attached is not None else next(rest, None)
        if text is None:
            raise Unparsed(f"option {word} needs a value")
        _take_value(given, option, text)
    return given, operands


def _split_word(command: Command, word: str) -> tuple[Option, str | None]:
    """Find the option of a word, and the value written on to it."""
    option = command.by_flag.get(word)
    if option is not None:
        return option, None
    if word[:2] == "--":
        flag, equals, text = word.partition("=")
        attached = text if equals else None
    else:
        flag, attached = word[:2], word[2:]
    option = command.by_flag.get(flag)
    if option is None:
        raise Unparsed(f"no option {flag}")
    return option, attached


def _take_value(given: dict[str, Value], option: Option, text: str) -> None:
    if option.kind == MANY:
        earlier = given.get(option.key)
        given[option.key] = [*earlier, text] if isinstance(earlier, list) else [text]
    elif option.kind == COUNT:
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise Unparsed(f"option {option.flags[-1]}: '{text}' is not a whole number")
        given[option.key] = int(text)
    elif option.kind == MAYBE:
        raise Unparsed(f"option {option.flags[-1]}")
    else:
        given[option.key] = text
