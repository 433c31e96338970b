"""A log on a node is read once for all who follow it, and no longer than they do."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from dorabatch.clock import FakeClock
from dorabatch.daemon.runs import log_tails
from dorabatch.daemon.runs.log_tails import LogTails
from dorabatch.daemon.runs.log_window import LogWindow
from dorabatch.node.container_spec import ContainerRequest
from dorabatch.node.fake import FakeNode
from dorabatch.node.identity import RunIdentity
from tests.makers import START
from tests.unit.daemon.conftest import SECONDS

BYTES_MAX = 10_000


@pytest.fixture
def node() -> FakeNode:
    """A node on which one container runs."""
    made = FakeNode("n1", now=FakeClock(START).now)
    identity = RunIdentity(cluster_id="c", workload_id=1, replica=1, attempt=1)
    wish = ContainerRequest(
        identity=identity, image="x", uid=1000, gid=1000, gpu_uuids=()
    )
    made.create(wish)
    made.start(wish.identity.name)
    return made


def name_on(node: FakeNode) -> str:
    (name,) = node.containers
    return name


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, SECONDS))


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.001)


async def take(pieces: AsyncIterator[bytes], count: int) -> bytes:
    """The next so many bytes, or what there is of them."""
    got = b""
    while len(got) < count:
        piece = await anext(pieces, None)
        if piece is None:
            break
        got += piece
    return got


def tail_threads() -> int:
    return sum(one.name.startswith("tail-") for one in threading.enumerate())


def reads(node: FakeNode) -> int:
    return sum(operation == "logs" for _, operation, _ in node.calls)


def test_all_followers_share_one_thread_and_one_stream(
    node: FakeNode, tmp_path: Path
) -> None:
    tails, name = LogTails(tmp_path, BYTES_MAX), name_on(node)
    node.write(name, b"one\n")

    async def follow() -> bytes:
        with tails.joined(node, name, follow=True) as pieces:
            return await take(pieces, 100)

    async def many() -> None:
        followers = [asyncio.create_task(follow()) for _ in range(300)]
        await asyncio.sleep(0)
        await until(lambda: tail_threads() == 1)
        node.write(name, b"two\n")
        late = asyncio.create_task(follow())
        await asyncio.sleep(0)
        node.exit(name, 0)
        assert set(await asyncio.gather(*followers, late)) == {b"one\ntwo\n"}
        await until(lambda: tail_threads() == 0)

    run(many())
    assert reads(node) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_thread_ends_with_the_last_follower(node: FakeNode, tmp_path: Path) -> None:
    tails, name = LogTails(tmp_path, BYTES_MAX), name_on(node)

    async def leave() -> None:
        with tails.joined(node, name, follow=True):
            await until(lambda: tail_threads() == 1)
            with tails.joined(node, name, follow=True):
                pass
            assert tail_threads() == 1
        await until(lambda: tail_threads() == 0)

    run(leave())
    assert reads(node) == 1


def test_each_begins_where_it_wants_to(node: FakeNode, tmp_path: Path) -> None:
    tails, name = LogTails(tmp_path, BYTES_MAX), name_on(node)
    node.write(name, b"one\ntwo\nthree\n")

    async def read(**wanted: int) -> bytes:
        with tails.joined(node, name, follow=False, **wanted) as pieces:
            return await take(pieces, 100)

    async def follow_last(count: int, size: int) -> bytes:
        with tails.joined(node, name, follow=True, lines=count) as pieces:
            return await take(pieces, size)

    async def all_ways() -> None:
        assert await read() == b"one\ntwo\nthree\n"
        assert await read(place=4) == b"two\nthree\n"
        assert await read(lines=1) == b"three\n"
        with tails.joined(node, name, follow=True, lines=2) as first:
            assert await take(first, 10) == b"two\nthree\n"
            node.write(name, b"four\n")
            assert await take(first, 5) == b"four\n"
            before = reads(node)
            assert await follow_last(2, 11) == b"three\nfour\n"
            assert reads(node) == before

    run(all_ways())


def test_a_slow_follower_holds_up_nobody_and_is_told(
    node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tails, "PIECE_BYTES", 100)
    monkeypatch.setattr(log_tails, "AHEAD_BYTES_MAX", 200)
    tails, name = LogTails(tmp_path, 1000), name_on(node)

    async def two_paces() -> None:
        with (
            tails.joined(node, name, follow=True) as slow,
            tails.joined(node, name, follow=True) as quick,
        ):
            for _ in range(50):
                node.write(name, b"x" * 100)
                assert await take(quick, 100) == b"x" * 100
            assert await anext(slow) == (
                b"[dorad: 4000 bytes are left out: read too slowly]\n"
            )
            assert await take(slow, 1000) == b"x" * 1000

    run(two_paces())


def test_the_node_is_read_ahead_of_its_only_reader_so_far_and_no_farther(
    node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tails, "PIECE_BYTES", 100)
    monkeypatch.setattr(log_tails, "AHEAD_BYTES_MAX", 200)
    tails, name = LogTails(tmp_path, 1000), name_on(node)

    async def read() -> None:
        with tails.joined(node, name, follow=True) as pieces:
            for number in range(50):
                node.write(name, b"%099d\n" % number)
                # Each a piece of its own.
                await asyncio.sleep(0.001)
            node.exit(name, 0)
            got = await take(pieces, 10_000)
            assert got == b"".join(b"%099d\n" % number for number in range(50))

    run(read())


def test_a_lost_node_is_told_to_who_follows(node: FakeNode, tmp_path: Path) -> None:
    tails, name = LogTails(tmp_path, BYTES_MAX), name_on(node)

    async def lose() -> None:
        with tails.joined(node, name, follow=True) as pieces:
            node.write(name, b"one\n")
            assert await take(pieces, 4) == b"one\n"
            node.cut()
            assert await take(pieces, 100) == b"[dorad: node n1: connection lost]\n"

    run(lose())


@pytest.mark.parametrize("size", [7, 50, 1000, 100_000])
def test_the_window_has_the_last_bytes_and_lines(tmp_path: Path, size: int) -> None:
    chance, window, written = random.Random(size), LogWindow(tmp_path, size), b""
    for _ in range(100):
        piece = bytes(chance.choices(b"ab\n", k=chance.randint(1, 300)))
        window.add(piece)
        written += piece
        kept, place, got = written[-size:], window.start, b""
        while some := window.read(place, 90):
            place += len(some)
            got += some
        assert (got, window.end) == (kept, len(written))
        lines, count = kept.splitlines(keepends=True), chance.randint(0, 20)
        last = b"".join(lines[-count:]) if count else b""
        assert written[window.place_of_last(count) :] == last
    window.close()
