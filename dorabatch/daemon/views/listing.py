"""`dstat`'s question: which workloads, in which order, in which form.

Filters the board (and, when asked for ended ones, what it remembers of them);
changes nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter

import orjson

from dorabatch.daemon.state.services import Services
from dorabatch.daemon.views import rows
from dorabatch.daemon.views.credit_columns import CreditShown
from dorabatch.daemon.views.kept_rows import KeptRows, Listed
from dorabatch.daemon.views.summary import containers_of, find_workload
from dorabatch.daemon.views.turns import places_by_workload, take_turns
from dorabatch.errors import UserError
from dorabatch.queue.records import Workload
from dorabatch.queue.states import parse_state_filter

TURN_FIELDS = frozenset({"rank", "prio", "start", "until", "cost"})
RENDERS = ("table", "json", "noheader", "wide")


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


def answer(
    services: Services, kept: KeptRows, question: ListQuestion
) -> tuple[str, bytes]:
    """(media type, body) of the list; rows in `kept` are not made again."""
    found = list(_matching(services, kept, question))
    columns, cells = _columns(question)
    rows.check_columns(cells, columns)
    by = question.sort.removeprefix("-")
    rows.check_columns(cells, (by,) if by else (), option="--sort")
    is_usual = not question.by_container and columns == rows.WORKLOAD_COLUMNS
    if question.render != "json" and is_usual and not by:
        lines = [one.cells for one in found]
    else:
        listed = _rows(services, question, found)
        if by:
            is_falling = question.sort.startswith("-")
            listed = rows.sort_rows(listed, by, cells, is_falling=is_falling)
        listed = listed[: question.limit]
        if question.render == "json":
            body = orjson.dumps(listed, option=orjson.OPT_APPEND_NEWLINE)
            return "application/json", body
        lines = [rows.cells_of(row, cells, columns) for row in listed]
    heads = tuple(cells[name][0] for name in columns)
    text = rows.lay_out(lines, None if question.render == "noheader" else heads)
    return "text/plain; charset=utf-8", text.encode()


def _columns(
    question: ListQuestion,
) -> tuple[tuple[str, ...], dict[str, tuple[str, rows.Cell]]]:
    cells = rows.WORKLOAD_CELLS
    usual: tuple[str, ...] = rows.WORKLOAD_COLUMNS
    if question.by_container:
        cells, usual = rows.CONTAINER_CELLS, rows.CONTAINER_COLUMNS
    every = tuple(cells) if question.render == "wide" else usual
    return question.columns or every, cells


def _rows(
    services: Services, question: ListQuestion, found: list[Listed]
) -> list[rows.Row]:
    if not question.by_container:
        return _with_turns(services, question, found)
    now, last = services.clock.now(), services.last_plan
    return [
        rows.container_row(last, one.workload, container, now)
        for one in found
        for container in one.containers
    ]


def _with_turns(
    services: Services, question: ListQuestion, found: list[Listed]
) -> list[rows.Row]:
    """The rows; with place and priority of what waits where somebody looks at them."""
    shown = TURN_FIELDS.intersection(
        (*question.columns, question.sort.removeprefix("-"))
    )
    if not shown and question.render not in ("json", "wide"):
        return [one.row for one in found]
    turns = take_turns(services, services.clock.now())
    order = {key: number for number, (key, _) in enumerate(places_by_workload(turns))}
    credit = CreditShown(services, services.clock.now())
    filled = []
    for one in found:
        row, key = one.row, one.workload.workload_id
        place = order.get(key)
        if place is not None:
            at = turns.row_at(turns.first[key])
            priority = int(turns.ranked.ranking.priority[at])
            row = {**row, "rank": place + 1, "priority": priority}
        start = services.outlook.starts.get(key)
        if start is not None and place is not None:
            row = {**row, "start": start.text()}
        if one.started_at is not None:
            row = {**row, **credit.of(one.containers)}
        filled.append(row)
    return filled


def _matching(
    services: Services, kept: KeptRows, question: ListQuestion
) -> Iterator[Listed]:
    now, last = services.clock.now(), services.last_plan
    count = 0
    for workload in _candidates(services, question):
        if not _passes(question, workload):
            continue
        containers = containers_of(services, workload)
        if question.nodes and not any(
            c.hold is not None and c.hold.node in question.nodes for c in containers
        ):
            continue
        listed = kept.listed(last, workload, containers, now)
        if question.codes and listed.row["code"] not in question.codes:
            continue
        yield listed
        count += 1
        if question.limit is not None and count >= question.limit and not question.sort:
            return


def _candidates(services: Services, question: ListQuestion) -> list[Workload]:
    if question.refs:
        home = services.people.default_workspace(question.caller)
        place = next(iter(sorted(question.workspaces)), home)
        return [find_workload(services, ref, place) for ref in question.refs]
    known = list(services.board.workloads.values())
    if not question.shows_ended:
        known = [workload for workload in known if workload.ended_at is None]
    return sorted(known, key=attrgetter("workload_id"))


def _passes(question: ListQuestion, workload: Workload) -> bool:
    if question.users and workload.submitter.user not in question.users:
        return False
    if question.zones and workload.zone not in question.zones:
        return False
    if question.refs or not question.workspaces:
        return True
    return workload.workspace in question.workspaces
