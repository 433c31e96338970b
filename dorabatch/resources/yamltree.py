"""YAML text to plain values, with the line of every field.

Decides which YAML is accepted: the JSON part of it, within limits, without aliases
and tags, each key once. Plain `true`, `false`, `null`, whole numbers and decimals
have a type; everything else is text, so `no`, `1e3` and `012` stay as written.
It never executes a tag and never knows what a kind is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import yaml
from yaml._yaml import CParser
from yaml.events import (
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from dorabatch.errors import ManifestError
from dorabatch.resources.names import quoted

TEXT_BYTES_MAX = 2**20
DOCUMENTS_MAX = 1_000
DEPTH_MAX = 20
NODES_MAX = 50_000
TAB_COLUMNS = 8

Loc = tuple[str | int, ...]
Value = str | int | bool | Decimal | None | list["Value"] | dict[str, "Value"]

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?")
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TEXT_TAGS = frozenset({"tag:yaml.org,2002:str", "!"})

_SENTENCES = {
    "found character that cannot start any token": (
        "no value can begin with this character; put the value in quotes"
    ),
    "mapping values are not allowed in this context": (
        "no 'key:' can stand here; check the indentation, or put the text in quotes"
    ),
    "did not find expected key": (
        "the indentation does not fit the lines above; a 'key: value' is expected"
    ),
    "did not find expected '-' indicator": (
        "the indentation does not fit the list above; a '- ' is expected"
    ),
    "could not find expected ':'": "a 'key: value' is expected here",
    "found unexpected end of stream": "a quote that was opened is never closed",
    "did not find expected ',' or ']'": "a '[' list is not closed with ']'",
    "did not find expected ',' or '}'": "a '{' mapping is not closed with '}'",
    "did not find expected alphabetic or numeric character": (
        "'*' and '&' have a meaning in YAML; put the value in quotes"
    ),
    # A newer libyaml stops before our own limit is counted.
    "exceeded maximum nesting depth": f"nested deeper than {DEPTH_MAX} levels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One YAML document: its value, its first line, the line of each field."""

    value: Value
    line: int
    lines: dict[Loc, int]

    def line_of(self, loc: Loc) -> int:
        """The line of a field, or of the nearest mapping around it."""
        while loc:
            if loc in self.lines:
                return self.lines[loc]
            loc = loc[:-1]
        return self.line


def read_trees(text: str, *, path: str = "") -> tuple[list[Tree], tuple[str, ...]]:
    """Every document of a text, and warnings about how it was read."""
    _check_size(text, path)
    try:
        return list(_Reader(text, path).trees()), ()
    except ManifestError:
        if "\t" not in text:
            raise
    first = text[: text.index("\t")].count("\n") + 1
    spaced = text.expandtabs(TAB_COLUMNS)
    _check_size(spaced, path, " after TABs became spaces")
    warning = (
        f"line {first} holds a TAB; TABs were read as spaces up to the next multiple "
        f"of {TAB_COLUMNS} columns (use spaces to be sure)"
    )
    return list(_Reader(spaced, path).trees()), (warning,)


def _check_size(text: str, path: str, when: str = "") -> None:
    size = len(text)
    if size <= TEXT_BYTES_MAX:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise ManifestError("the text is not UTF-8", path=path) from None
    if size > TEXT_BYTES_MAX:
        raise ManifestError(
            f"the text has {size} bytes{when}; allowed are {TEXT_BYTES_MAX}",
            path=path,
        )


def type_scalar(text: str) -> Value:
    """The value of a plain (unquoted) word."""
    number = _NUMBER.fullmatch(text)
    if number is not None:
        return int(text) if number[1] is None else Decimal(text)
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    return text


def _line(event: Event) -> int:
    mark = event.start_mark
    return 1 if mark is None else mark.line + 1


class _Reader:
    """Turns libyaml's events into trees; stops at the first broken limit."""

    def __init__(self, text: str, path: str) -> None:
        self._text = text
        self._path = path
        self._parser = CParser(text)
        self._lines: dict[Loc, int] = {}
        self._nodes = 0

    def trees(self) -> Iterator[Tree]:
        count = 0
        while True:
            event = self._next()
            if isinstance(event, StreamEndEvent):
                return
            if not isinstance(event, DocumentStartEvent):
                continue
            count += 1
            if count > DOCUMENTS_MAX:
                raise self._error(
                    f"more than {DOCUMENTS_MAX} documents; split the file", event
                )
            yield self._document()

    def _document(self) -> Tree:
        self._lines = {}
        event = self._next()
        line = _line(event)
        value = self._node(event, (), 1)
        self._next()
        return Tree(value=value, line=line, lines=self._lines)

    def _node(self, event: Event, loc: Loc, depth: int) -> Value:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise self._error(f"more than {NODES_MAX} values; split the file", event)
        if depth > DEPTH_MAX:
            raise self._error(f"nested deeper than {DEPTH_MAX} levels", event)
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        if not isinstance(event, CollectionStartEvent):
            raise self._error("aliases (*) are not accepted; write it out", event)
        if event.tag is not None:
            raise self._error(f"the tag {quoted(event.tag)} is not accepted", event)
        if isinstance(event, MappingStartEvent):
            return self._mapping(loc, depth)
        return self._sequence(loc, depth)

    def _scalar(self, event: ScalarEvent) -> Value:
        if event.tag is not None:
            if event.tag not in _TEXT_TAGS:
                raise self._error(f"the tag {quoted(event.tag)} is not accepted", event)
            return str(event.value)
        # implicit[0] is True only for a plain word: quoted text has no type to guess.
        return type_scalar(event.value) if event.implicit[0] else str(event.value)

    def _sequence(self, loc: Loc, depth: int) -> Value:
        found: list[Value] = []
        while True:
            event = self._next()
            if isinstance(event, SequenceEndEvent):
                return found
            child = (*loc, len(found))
            self._lines[child] = _line(event)
            found.append(self._node(event, child, depth + 1))

    def _mapping(self, loc: Loc, depth: int) -> Value:
        found: dict[str, Value] = {}
        while True:
            event = self._next()
            if isinstance(event, MappingEndEvent):
                return found
            if not isinstance(event, ScalarEvent):
                raise self._error("a key must be a plain word", event)
            key = str(event.value)
            child = (*loc, key)
            if key in found:
                raise self._error(
                    f"the key {quoted(key)} stands twice in one mapping (first in line "
                    f"{self._lines[child]}); keep one of them",
                    event,
                )
            self._lines[child] = _line(event)
            found[key] = self._node(self._next(), child, depth + 1)

    def _next(self) -> Event:
        try:
            event = self._parser.get_event()
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error) from None
        except yaml.reader.ReaderError as error:
            raise self._character_error(error) from None
        if event is None:
            raise ManifestError("the text ends too early", path=self._path)
        return event

    def _error(self, problem: str, event: Event) -> ManifestError:
        return ManifestError(problem, path=self._path, line=_line(event))

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> ManifestError:
        raw = str(error.problem or "this is not YAML")
        sentence = _SENTENCES.get(raw, raw)
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        return ManifestError(f"not YAML: {sentence}", path=self._path, line=line)

    def _character_error(self, error: yaml.reader.ReaderError) -> ManifestError:
        before = self._text.encode()[: int(error.position)]
        return ManifestError(
            f"not YAML: a control character is not allowed ({error.reason})",
            path=self._path,
            line=before.count(b"\n") + 1,
        )
