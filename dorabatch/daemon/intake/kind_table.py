"""The table of kinds: what each is, where it lives, and who answers for it.

A kind that is served is one entry: routes, lists and commands go by it. What a document
may say and which verbs there are, `resources` says. Knows no kind itself;
`intake.assembly` puts the entries in.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dorabatch.daemon.rights import Caller
from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.errors import NotFound, UserError, invariant
from dorabatch.resources.document import Document
from dorabatch.resources.nearest import did_you_mean
from dorabatch.resources.verbs import VERBS, Verb


class Scope(StrEnum):
    """Where objects of a kind live."""

    EVERYWHERE = "everywhere"
    ZONE = "zone"
    WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of one document; `unpinned`: a host key to be agreed to first."""

    kind: str
    name: str
    result: str
    message: str
    warnings: tuple[str, ...] = ()
    unpinned: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """Whose an object is: its workspace and its owner, where its kind has such."""

    workspace: str | None = None
    owner: str | None = None


def nobodys(_object: object, _home: str = "") -> Belonging:
    """Where objects are that belong to the zone or to all."""
    return Belonging()


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """One object that a request names."""

    name: str
    workspace: str


Rows = Callable[[], list[Row]]
_TOLD_MAX = 10


def row_named(kind: str, rows: Rows, _caller: Caller, named: Named) -> Row:
    """The row of this name; raises NotFound with those that there are."""
    found = rows()
    for row in found:
        if row["name"] == named.name:
            return row
    told = [str(row["name"]) for row in found[:_TOLD_MAX]]
    told += ["..."] if len(found) > _TOLD_MAX else []
    known = ", ".join(told) or "none"
    raise NotFound(f"no {kind} {named.name!r} (known: {known})")


Listing = Callable[[Caller, Mapping[str, str]], tuple[str, bytes]]
Find = Callable[[Caller, Named], Row]
Apply = Callable[[Caller, Document, str | None], Applied]
Target = Callable[[Document, str], Belonging]
Delete = Callable[[Caller, Named], tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindEntry:
    """One kind.

    words     what people may type for it, in any case
    cells, columns   the table of its list
    rows()    every object; the border leaves out what the caller may not see
    listing   instead of `rows` where lists are too long to be made row by row
    lists_one   the listing answers for one name as well, with the row of a list
    find      one object as a record; raises NotFound
    belongs   whose an object is, from its record: it decides who may see it
    text      a record for people
    target    whose a document's object would be: it decides who may apply it
    apply, delete   None: the sentence in `kept_by` says who does that instead
    """

    name: str
    words: tuple[str, ...]
    scope: Scope
    cells: Mapping[str, tuple[str, Cell]]
    columns: tuple[str, ...]
    find: Find
    belongs: Callable[[Row], Belonging]
    text: Callable[[Row], str]
    rows: Rows | None = None
    shown: Callable[[Caller, Row], Row] = lambda _caller, row: row
    listing: Listing | None = None
    lists_one: bool = False
    target: Target | None = None
    apply: Apply | None = None
    delete: Delete | None = None
    kept_by: str = ""

    @property
    def verbs(self) -> tuple[Verb, ...]:
        """What a role can allow with it."""
        return VERBS[self.name]


class KindTable:
    """Every kind that this daemon serves, by name and by the words for it."""

    def __init__(self, kinds: tuple[KindEntry, ...]) -> None:
        self._kinds = {kind.name: kind for kind in kinds}
        self._by_word: dict[str, KindEntry] = {}
        for kind in kinds:
            check_kind(kind)
            for word in (kind.name.lower(), *kind.words):
                known = self._by_word.setdefault(word, kind)
                invariant(known is kind, f"{word!r} is {known.name} and {kind.name}")

    def __iter__(self) -> Iterator[KindEntry]:
        """The kinds in the order of the table."""
        return iter(self._kinds.values())

    def of(self, name: str) -> KindEntry:
        """The kind of a document; UserError where it is not served."""
        kind = self._kinds.get(name)
        if kind is None:
            raise UserError(f"kind {name}: {self._served()}")
        return kind

    def meant(self, word: str) -> KindEntry:
        """The kind that somebody typed; UserError with the nearest one."""
        kind = self._by_word.get(word.lower())
        if kind is None:
            hint = did_you_mean(word.lower(), self._by_word)
            raise UserError(f"no kind {word!r}{hint}; {self._served()}")
        return kind

    def _served(self) -> str:
        return f"this daemon serves {', '.join(self._kinds)}"


def check_kind(kind: KindEntry) -> None:
    """Raise InvariantError for an entry that says too little."""
    has_list = kind.rows is not None or kind.listing is not None
    invariant(kind.name in VERBS, f"kind {kind.name}: no verbs are known for it")
    invariant(has_list, f"kind {kind.name}: neither rows nor listing")
    is_whole = kind.apply is not None and kind.delete is not None
    invariant(is_whole or bool(kind.kept_by), f"kind {kind.name}: who applies it?")
    is_placed = kind.apply is None or kind.target is not None
    invariant(is_placed, f"kind {kind.name}: where does a document put it?")
