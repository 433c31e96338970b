"""`dstat`'s question: which workloads, in which order, in which form.

Filters the board (and, when asked for ended ones, what it remembers of them);
changes nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from dorabatch.daemon import rows
from dorabatch.daemon.services import Services
from dorabatch.daemon.summary import containers_of, find_workload, summarize
from dorabatch.errors import UserError
from dorabatch.queue.records import Container, Workload
from dorabatch.queue.states import parse_state_filter

RENDERS = ("table", "json", "noheader", "wide")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to list; empty filters let everything pass."""

    refs: tuple[str, ...] = ()
    user: str = ""
    workspace: str = ""
    node: str = ""
    codes: frozenset[str] = frozenset()
    shows_ended: bool = False
    limit: int | None = None
    by_container: bool = False
    render: str = "table"
    columns: tuple[str, ...] = ()
    caller: str = ""


def parse_question(query: Mapping[str, str], refs: list[str], caller: str) -> Question:
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
    if text and not (text.isdigit() and int(text) > 0):
        raise UserError(f"--limit: {text!r} (allowed: a whole number from 1)")
    ended = {"CD", "F", "CA", "TO", "NF"}
    return Question(
        refs=tuple(refs),
        user=query.get("user", ""),
        workspace=query.get("workspace", ""),
        node=query.get("node", ""),
        codes=codes,
        shows_ended=query.get("all", "") in ("1", "true") or bool(codes & ended),
        limit=int(text) if text else None,
        by_container=query.get("view", "") == "containers",
        render=render,
        columns=tuple(c for c in query.get("columns", "").split(",") if c),
        caller=caller,
    )


def answer(services: Services, question: Question) -> tuple[str, bytes]:
    """(media type, body) of the list."""
    found = list(_matching(services, question))
    now = services.clock.now()
    last = services.last_plan
    if question.by_container:
        listed = [
            rows.container_row(last, workload, container, now)
            for workload, containers in found
            for container in containers
        ]
        cells = rows.CONTAINER_CELLS
        columns: tuple[str, ...] = rows.CONTAINER_COLUMNS
    else:
        listed = [
            rows.workload_row(last, workload, containers, now)
            for workload, containers in found
        ]
        cells = rows.WORKLOAD_CELLS
        columns = rows.WORKLOAD_COLUMNS
    if question.render == "json":
        return "application/json", orjson.dumps(
            listed, option=orjson.OPT_APPEND_NEWLINE
        )
    if question.render == "wide":
        columns = tuple(cells)
    text = rows.render_table(
        listed,
        cells,
        question.columns or columns,
        has_header=question.render != "noheader",
    )
    return "text/plain; charset=utf-8", text.encode()


def _matching(
    services: Services, question: Question
) -> Iterator[tuple[Workload, list[Container]]]:
    candidates = _candidates(services, question)
    count = 0
    for workload in candidates:
        if not _passes(question, workload):
            continue
        containers = containers_of(services, workload)
        if question.node and not any(
            c.hold is not None and c.hold.node == question.node for c in containers
        ):
            continue
        if question.codes and not _has_code(services, question, workload):
            continue
        yield workload, containers
        count += 1
        if question.limit is not None and count >= question.limit:
            return


def _candidates(services: Services, question: Question) -> list[Workload]:
    if question.refs:
        place = question.workspace or question.caller
        return [find_workload(services, ref, place) for ref in question.refs]
    known = list(services.board.workloads.values())
    if not question.shows_ended:
        known = [workload for workload in known if workload.ended_at is None]
    return sorted(known, key=lambda workload: workload.workload_id)


def _passes(question: Question, workload: Workload) -> bool:
    if question.user and workload.submitter.user != question.user:
        return False
    if question.refs:
        return True
    return not question.workspace or workload.workspace == question.workspace


def _has_code(services: Services, question: Question, workload: Workload) -> bool:
    return summarize(services.board, workload).code in question.codes
