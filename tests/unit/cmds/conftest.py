"""A server that answers each connection with given bytes, cut up as told."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Pieces = list[bytes]
Serve = Callable[..., list[bytes]]


def answer_all(listener: socket.socket, answers: list[Pieces], seen: Pieces) -> None:
    for pieces in answers:
        connection, _ = listener.accept()
        with connection:
            data = b""
            while b"\r\n\r\n" not in data and (more := connection.recv(65536)):
                data += more
            seen.append(data)
            for piece in pieces:
                connection.sendall(piece)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Call it with the pieces of one answer for each connection to come."""
    path = tmp_path / "s"
    monkeypatch.setenv("DORABATCH_SOCKET", str(path))
    threads: list[threading.Thread] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def start(*answers: Pieces) -> list[bytes]:
            seen: list[bytes] = []
            argv = (listener, list(answers), seen)
            thread = threading.Thread(target=answer_all, args=argv)
            thread.start()
            threads.append(thread)
            return seen

        yield start
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
