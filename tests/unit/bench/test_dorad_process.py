"""The benches' own HTTP: what they send, and answers that they must not accept."""

import json
import socket

import pytest

from bench.dorad_process import BenchError, read_answer, submission


def answered(data: bytes) -> tuple[int, bytes]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        return read_answer(ours)


def test_a_submission_names_its_own_length() -> None:
    head, _, body = submission({"image": "bücher"}).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"options": {"image": "bücher"}}


def test_an_answer_is_read_to_its_end() -> None:
    data = b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nabcd"
    assert answered(data) == (201, b"abcd")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 201 Created\r\nContent-Le",
        b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nab",
    ],
)
def test_half_an_answer_is_an_error(data: bytes) -> None:
    with pytest.raises(BenchError, match="closed"):
        answered(data)


def test_an_answer_without_a_length_is_an_error() -> None:
    with pytest.raises(BenchError, match="without a length"):
        answered(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n")
