"""Logs written all or nothing, pulls followed to their end."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorabatch.errors import ImagePullFailed, NodeUnreachable
from dorabatch.node.docker_streams import (
    DockerEventStream,
    DockerLogStream,
    read_pull,
    registry_header,
    write_tail,
)
from dorabatch.node.driver import PullProgress, RegistryAuth


class Wire:
    """A connection that only counts its end."""

    is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


def frame(text: bytes, stream: int = 1) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


def log_of(data: bytes) -> tuple[Any, Wire]:
    wire = Wire()
    stream: Any = DockerLogStream(
        wire,  # type: ignore[arg-type]  # only abort() is used
        io.BytesIO(data),  # type: ignore[arg-type]  # only read() is used
        lambda error: NodeUnreachable(f"lost: {error}"),
    )
    return stream, wire


def test_frames_of_both_streams() -> None:
    stream, wire = log_of(frame(b"out\n") + frame(b"", 2) + frame(b"err\n", 2))
    assert b"".join(stream) == b"out\nerr\n"
    assert wire.is_aborted


def test_a_large_frame_comes_in_pieces() -> None:
    data = b"x" * 200_000
    pieces = list(log_of(frame(data))[0])
    assert b"".join(pieces) == data and len(pieces) > 1


@pytest.mark.parametrize("cut", [3, 8, 10])
def test_a_torn_frame_is_a_lost_node(cut: int) -> None:
    stream, wire = log_of(frame(b"hello")[:cut])
    with pytest.raises(NodeUnreachable, match="lost"):
        list(stream)
    assert wire.is_aborted


def test_a_closed_stream_ends_quietly() -> None:
    stream, _ = log_of(frame(b"hello")[:10])
    stream.close()
    assert b"".join(stream) in (b"", b"he")


def test_events_end_only_by_close() -> None:
    line = {
        "Action": "die",
        "Actor": {"ID": "i", "Attributes": {"name": "n"}},
        "timeNano": 1,
    }
    noise = {**line, "Action": "exec_create: sh"}
    data = b"".join(json.dumps(item).encode() + b"\n" for item in (noise, line))
    events: Any = DockerEventStream(
        Wire(),  # type: ignore[arg-type]  # only abort() is used
        io.BytesIO(data),  # type: ignore[arg-type]  # only readline() is used
        lambda error: NodeUnreachable(f"lost: {error}"),
    )
    assert next(events).action == "die"
    with pytest.raises(NodeUnreachable, match="ended"):
        next(events)
    with pytest.raises(StopIteration):
        next(events)


def pull(*lines: Any, check: Any = lambda: None) -> list[PullProgress]:
    seen: list[PullProgress] = []
    text = b"".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
        for line in lines
    )
    read_pull("img", io.BytesIO(text), seen.append, check)  # type: ignore[arg-type]
    return seen


def test_pull_tells_progress() -> None:
    detail = {"current": 5, "total": 9}
    seen = pull(
        {"status": "Downloading", "id": "a", "progressDetail": detail},
        b"\n",
        {"status": "Done"},
    )
    assert seen[0] == PullProgress(
        status="Downloading", layer="a", current_bytes=5, total_bytes=9
    )
    assert seen[1].current_bytes is None


def test_pull_keeps_the_registrys_words() -> None:
    with pytest.raises(ImagePullFailed, match="toomanyrequests: slow down"):
        pull({"status": "x"}, {"error": "toomanyrequests: slow down"})


def test_pull_refuses_what_is_not_json() -> None:
    with pytest.raises(ImagePullFailed, match="not readable"):
        pull(b"<html>\n")


def test_pull_can_be_stopped_by_time() -> None:
    def late() -> None:
        raise ImagePullFailed("too late")

    with pytest.raises(ImagePullFailed, match="too late"):
        pull({"status": "x"}, check=late)


def test_registry_login_is_not_shown() -> None:
    auth = RegistryAuth(username="u", password="secret", server="r")
    assert "secret" not in repr(auth)
    header = registry_header(auth)["X-Registry-Auth"]
    assert json.loads(base64.urlsafe_b64decode(header))["password"] == "secret"
    assert registry_header(None) == {}


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=90_000), max_size=6),
    keep=st.integers(1, 100_000),
)
def test_the_last_bytes_are_kept(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], keep: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "x.log"
    whole = b"".join(pieces)
    saved = write_tail(iter(pieces), path, keep)
    assert path.read_bytes() == whole[-keep:]
    assert saved.byte_count == min(len(whole), keep)
    assert saved.is_truncated == (len(whole) > keep)


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"old")

    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise NodeUnreachable("cut")

    with pytest.raises(NodeUnreachable):
        write_tail(pieces(), path, 100)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"keep")
    path = tmp_path / "x.log"
    path.symlink_to(target)
    write_tail(iter([b"new"]), path, 100)
    assert target.read_bytes() == b"keep" and not path.is_symlink()
