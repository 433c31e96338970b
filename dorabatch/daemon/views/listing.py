"""`dstat`'s question: which workloads, in which order, in which form.

Filters the board (and, when asked for ended ones, what it remembers of them);
changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from operator import attrgetter

import orjson

from dorabatch.clock import Clock
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.last_plan import LastPlan, LatestPlan
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.daemon.views.container_rows import (
    CONTAINER_CELLS,
    CONTAINER_COLUMNS,
    CONTAINER_FIELDS,
    container_row,
)
from dorabatch.daemon.views.kept_rows import KeptRows, Listed, less
from dorabatch.daemon.views.last_places import LastPlaces, has_ended
from dorabatch.daemon.views.sight import Sight, without
from dorabatch.daemon.views.summary import WorkloadFinder
from dorabatch.daemon.views.table_layout import (
    Cell,
    Row,
    cells_of,
    check_columns,
    lay_out,
    sort_rows,
)
from dorabatch.daemon.views.turn_columns import TURN_FIELDS, TurnColumns
from dorabatch.daemon.views.workload_rows import (
    WORKLOAD_CELLS,
    WORKLOAD_COLUMNS,
    WORKLOAD_FIELDS,
)
from dorabatch.errors import UserError
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import State, parse_state_filter

RENDERS = ("table", "json", "noheader", "wide")
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuestion:
    """What to list; empty filters let everything pass."""

    refs: tuple[str, ...] = ()
    users: frozenset[str] = frozenset()
    workspaces: frozenset[str] = frozenset()
    zones: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    shows_ended: bool = False
    limit: int | None = None
    by_container: bool = False
    render: str = "table"
    columns: tuple[str, ...] = ()
    sort: str = ""
    caller: str = ""


def parse_question(
    query: Mapping[str, str], refs: list[str], caller: str
) -> ListQuestion:
    """The question behind a query string; raises UserError for what it cannot mean."""
    render = query.get("render", "table")
    if render not in RENDERS:
        raise UserError(f"render: {render!r} (allowed: {', '.join(RENDERS)})")
    try:
        words = [word for word in query.get("state", "").split(",") if word]
        codes = frozenset().union(*(parse_state_filter(word) for word in words))
    except ValueError as error:
        raise UserError(f"--state: {error}") from error
    text = query.get("limit", "")
    if text and not (text.isdecimal() and len(text) < 19 and int(text) > 0):
        raise UserError(f"--limit: {text!r} (allowed: a whole number from 1)")
    ended = {"CD", "F", "CA", "TO", "NF"}
    return ListQuestion(
        refs=tuple(refs),
        users=_words(query, "user"),
        workspaces=_words(query, "workspace"),
        zones=_words(query, "zone"),
        nodes=_words(query, "node"),
        codes=codes,
        shows_ended=query.get("all", "") in ("1", "true") or bool(codes & ended),
        limit=int(text) if text else None,
        by_container=query.get("view", "") == "containers",
        render=render,
        columns=tuple(c for c in query.get("columns", "").split(",") if c),
        sort=query.get("sort", ""),
        caller=caller,
    )


def _words(query: Mapping[str, str], name: str) -> frozenset[str]:
    return frozenset(word for word in query.get(name, "").split(",") if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSearch:
    """Finds what a question is about; `kept` rows are not made again."""

    board: Board
    finder: WorkloadFinder
    users: DeclaredUsers
    places: LastPlaces
    kept: KeptRows

    def matching(
        self, question: ListQuestion, caller: Caller, last: LastPlan, now: datetime
    ) -> Iterator[Listed]:
        """The workloads that pass the filters, in order; no more than the limit."""
        kind = "Container" if question.by_container else "Workload"
        sight = self.finder.sight(caller, kind)
        found = self._listed(question, sight, last, now)
        # A sorted list is cut when it is sorted.
        return islice(found, None if question.sort else question.limit)

    def _listed(
        self, question: ListQuestion, sight: Sight, last: LastPlan, now: datetime
    ) -> Iterator[Listed]:
        for workload, containers in self._with_containers(question, sight):
            if not _is_there(question, containers):
                continue
            listed = self.kept.listed(last, workload, containers, now)
            if not question.codes or listed.row["code"] in question.codes:
                yield less(listed, sight.hidden(workload))

    def _with_containers(
        self, question: ListQuestion, sight: Sight
    ) -> Iterator[tuple[Workload, Sequence[Container]]]:
        """Candidates with their containers, as they are shown."""
        known = self._candidates(question, sight)
        wanted = [one for one in known if _passes(question, one, sight)]
        for begin in range(0, len(wanted), _AT_ONCE):
            some = wanted[begin : begin + _AT_ONCE]
            found = [self.finder.containers_of(workload) for workload in some]
            ended = [one for group in found for one in group if has_ended(one)]
            self.places.look_up(ended)
            shown = map(self.places.shown, found) if ended else found
            yield from zip(some, shown, strict=True)

    def _candidates(self, question: ListQuestion, sight: Sight) -> list[Workload]:
        if question.refs:
            home = self.users.default_workspace(question.caller)
            place = next(iter(sorted(question.workspaces)), home)
            return [self.finder.find(sight.caller, ref, place) for ref in question.refs]
        known = list(self.board.workloads.values())
        if not question.shows_ended:
            known = [workload for workload in known if workload.ended_at is None]
        return sorted(known, key=attrgetter("workload_id"))


def _passes(question: ListQuestion, workload: Workload, sight: Sight) -> bool:
    if not sight.lists(workload):
        return False
    if question.users and workload.submitter.user not in question.users:
        return False
    if question.zones and workload.zone not in question.zones:
        return False
    if question.refs or not question.workspaces:
        return True
    # A workspace that the row does not show is not told by a filter either.
    is_shown = "workspace" not in sight.hidden(workload)
    return workload.workspace in question.workspaces and is_shown


def _is_there(question: ListQuestion, containers: Sequence[Container]) -> bool:
    """Whether it is on one of the nodes, or was where ended ones are listed."""
    return not question.nodes or any(
        one.hold is not None
        and one.hold.node in question.nodes
        and (question.shows_ended or one.state is not State.FINISHED)
        for one in containers
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadListing:
    """Lists of workloads and containers of one zone."""

    search: WorkloadSearch
    turn_columns: TurnColumns
    latest: LatestPlan
    clock: Clock

    def answer(self, question: ListQuestion, caller: Caller) -> tuple[str, bytes]:
        """(media type, body) of the list, of what the caller may see."""
        form = _form_of(question)
        check_columns(form.cells, form.columns)
        by = question.sort.removeprefix("-")
        check_columns(form.cells, (by,) if by else (), option="--sort")
        last, now = self.latest.last, self.clock.now()
        found = list(self.search.matching(question, caller, last, now))
        is_usual = not question.by_container and form.columns == WORKLOAD_COLUMNS
        if question.render != "json" and is_usual and not by:
            return form.table([one.cells for one in found])
        rows = self._rows(question, found, last, now)
        if by:
            is_falling = question.sort.startswith("-")
            rows = sort_rows(
                rows, by, form.cells, field_of=form.field_of, is_falling=is_falling
            )
        rows = rows[: question.limit]
        if question.render == "json":
            body = orjson.dumps(rows, option=orjson.OPT_APPEND_NEWLINE)
            return "application/json", body
        return form.table([cells_of(row, form.cells, form.columns) for row in rows])

    def _rows(
        self,
        question: ListQuestion,
        found: Sequence[Listed],
        last: LastPlan,
        now: datetime,
    ) -> list[Row]:
        if question.by_container:
            return [
                without(container_row(last, one.workload, container, now), one.hidden)
                for one in found
                for container in one.containers
            ]
        named = (*question.columns, question.sort.removeprefix("-"))
        shows_all = question.render in ("json", "wide")
        if not shows_all and TURN_FIELDS.isdisjoint(named):
            return [one.row for one in found]
        return self.turn_columns.filled(found, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """Which columns a list has; `field_of` names a column's field if it is another."""

    cells: dict[str, tuple[str, Cell]]
    columns: tuple[str, ...]
    field_of: Mapping[str, str]
    has_header: bool

    def table(self, lines: list[tuple[str, ...]]) -> tuple[str, bytes]:
        """The list as text."""
        heads = tuple(self.cells[name][0] for name in self.columns)
        text = lay_out(lines, heads if self.has_header else None)
        return "text/plain; charset=utf-8", text.encode()


def _form_of(question: ListQuestion) -> _Form:
    cells, field_of = WORKLOAD_CELLS, WORKLOAD_FIELDS
    usual: tuple[str, ...] = WORKLOAD_COLUMNS
    if question.by_container:
        cells, field_of, usual = CONTAINER_CELLS, CONTAINER_FIELDS, CONTAINER_COLUMNS
    every = tuple(cells) if question.render == "wide" else usual
    return _Form(
        cells=cells,
        columns=question.columns or every,
        field_of=field_of,
        has_header=question.render != "noheader",
    )
