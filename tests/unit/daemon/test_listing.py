"""Lists: filters, columns and forms."""

from collections.abc import Mapping

import orjson
import pytest

from dorabatch.daemon.views.listing import parse_question
from dorabatch.errors import NotFound, UserError
from dorabatch.queue.states import Outcome
from dorabatch.queue.transitions import told_to_end
from tests.makers import BOB, hold
from tests.unit.daemon.conftest import Parts, caller

ROOT = caller(is_admin=True)


@pytest.fixture
def full(parts: Parts) -> Parts:
    """Waiting a, running b on n1, bob's c, team/d, ended e."""
    parts.submit("a", options={"gpus": "2"})
    parts.submit("b", replicas=2)
    parts.submit("c", submitter=BOB, workspace="bob", options={"cpus": "2"})
    parts.submit("d", workspace="team")
    parts.submit("e")
    parts.run(parts.container(2), hold())
    one, now = parts.container(5), parts.clock.now()
    parts.change(one, lambda c: told_to_end(c, Outcome.FAILED, "exit code 3", now))
    return parts


def names(parts: Parts, query: Mapping[str, str], *refs: str) -> list[str]:
    """The names that a query lists, as JSON says."""
    question = parse_question({**query, "render": "json"}, list(refs), "alice")
    media, body = parts.views.listing.answer(question, ROOT)
    assert media == "application/json"
    return [row["name"] for row in orjson.loads(body)]


def table(parts: Parts, query: Mapping[str, str]) -> list[list[str]]:
    """The table's words by line."""
    _, body = parts.views.listing.answer(parse_question(query, [], "alice"), ROOT)
    return [line.split() for line in body.decode().splitlines()]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["a", "b", "c", "d", "e"]),
        ({"user": "bob"}, ["c"]),
        ({"workspace": "team"}, ["d"]),
        ({"workspace": "team", "user": "bob"}, []),
        ({"node": "n1"}, ["b"]),
        ({"node": "n2"}, []),
        ({"state": "running"}, ["b"]),
        ({"state": "pending,R", "user": "alice"}, ["a", "b", "d"]),
        ({"limit": "2"}, ["a", "b"]),
        ({"view": "containers", "user": "alice", "limit": "2"}, ["a.1", "b.1"]),
        ({"user": "bob,alice", "workspace": "team,bob"}, ["c", "d"]),
        ({"node": "n1,n2"}, ["b"]),
        ({"zone": "mars"}, []),
        ({"sort": "-name"}, ["e", "d", "c", "b", "a"]),
        ({"sort": "user", "limit": "3"}, ["a", "b", "d"]),
        ({"sort": "rank", "user": "alice"}, ["b", "d", "a", "e"]),
        ({"view": "containers", "sort": "-try", "limit": "1"}, ["b.1"]),
    ],
)
def test_filters(full: Parts, query: dict[str, str], expected: list[str]) -> None:
    assert names(full, query) == expected


def test_references(full: Parts) -> None:
    assert names(full, {}, "3", "a", "team/d") == ["c", "a", "d"]
    with pytest.raises(NotFound, match="no workload 'zz'"):
        names(full, {}, "zz")


def test_ended_ones_are_listed_when_asked_for(parts: Parts) -> None:
    parts.submit("a")
    parts.submit("b")
    workload = parts.books.board.workloads[1]
    parts.applier.delete(caller(), workload)
    assert names(parts, {}) == ["b"]
    assert names(parts, {"all": "1"}) == ["a", "b"]
    assert names(parts, {"state": "CA"}) == ["a"]


@pytest.mark.mission("M63")
def test_the_table(full: Parts) -> None:
    lines = table(full, {})
    heads = "ID WORKSPACE NAME USER ST REPL GPUS TIME NODE(REASON)"
    assert lines[0] == heads.split()
    assert lines[2][:8] == ["2", "alice", "b", "alice", "R", "1/2", "1", "0:00"]
    assert lines[2][8] == "n1"
    assert table(full, {"render": "noheader"}) == lines[1:]
    assert len(table(full, {"render": "wide"})[0]) > len(lines[0])
    heads = table(full, {"render": "wide", "view": "containers"})[0]
    assert len(heads) == len(set(heads))
    only = table(full, {"columns": "name,st", "user": "bob"})
    assert only == [["NAME", "ST"], ["c", "PD"]]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"render": "xml"}, r"render: 'xml' \(allowed: table"),
        ({"state": "runing"}, "--state: unknown state 'runing'"),
        ({"limit": "0"}, "--limit: '0'"),
        ({"limit": "-1"}, "--limit"),
        ({"limit": "²"}, "--limit"),
        ({"columns": "nosuch"}, "--format: unknown column 'nosuch'"),
        ({"sort": "-nosuch"}, "--sort: unknown column 'nosuch'"),
    ],
)
def test_what_a_query_cannot_mean(
    parts: Parts, query: dict[str, str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        parts.views.listing.answer(parse_question(query, [], "alice"), ROOT)


@pytest.mark.parametrize("ref", ["²", "9" * 30, "9" * 5000])
def test_an_odd_id_is_simply_not_found(parts: Parts, ref: str) -> None:
    with pytest.raises(NotFound):
        names(parts, {}, ref)
