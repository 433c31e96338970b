"""The HTTP client, against answers that are whole, cut up, broken or no HTTP."""

import socket

import pytest

from dorabatch.cmds.answers import read_error, read_record
from dorabatch.cmds.client import (
    AnsweredError,
    DaemonAway,
    quote,
    send,
    target,
    unquote,
)
from dorabatch.errors import DaemonUnavailable

OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"Content-Length: 6\r\n\r\nhello\n"
CHUNKED = (
    OK
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"5\r\nhello\r\n1;a=b\r\n\n\r\n0\r\nX: y\r\n\r\n"
)
CLOSED = OK + b"\r\nhello\n"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED, CLOSED, CONTINUED])
def test_every_form_of_body_arrives_whole(serve, whole):
    serve([whole])
    assert send("GET", "/").read() == b"hello\n"


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED, CLOSED, CONTINUED])
def test_a_body_may_come_byte_by_byte(serve, whole):
    serve([whole[at : at + 1] for at in range(len(whole))])
    assert send("GET", "/").read() == b"hello\n"


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED])
def test_an_answer_cut_anywhere_is_noticed(serve, whole):
    cuts = range(len(whole))
    serve(*[[whole[:at]] for at in cuts])
    for _ in cuts:
        with pytest.raises(DaemonAway, match="ended the connection") as caught:
            send("GET", "/").read()
        assert caught.value.is_sent


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 yes OK\r\n\r\n",
        b"\r\n\r\n",
        OK + b"Content-Length: six\r\n\r\n",
        OK + b"Content-Length: -6\r\n\r\n",
        OK + b"Content-Length: \xb2\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_our_http_is_refused(serve, data):
    serve([data])
    with pytest.raises(DaemonUnavailable, match="is not dorad") as caught:
        send("GET", "/").read()
    assert not isinstance(caught.value, DaemonAway)


def test_an_endless_head_is_refused(serve, monkeypatch):
    monkeypatch.setattr("dorabatch.cmds.client.HEAD_BYTES_MAX", 100)
    serve([b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50])
    with pytest.raises(DaemonUnavailable, match="is not dorad"):
        send("GET", "/")


def test_the_request_is_what_http_wants(serve):
    seen = serve([PLAIN], [PLAIN])
    send("POST", "/v1/x", [("a", "b c&d"), ("e", "ü")], b'{"f":1}').read()
    send("GET", "/v1/x").read()
    assert seen[0] == (
        b"POST /v1/x?a=b%20c%26d&e=%C3%BC HTTP/1.1\r\nHost: dorabatch\r\n"
        b"Connection: close\r\nContent-Type: application/json\r\n"
        b'Content-Length: 7\r\n\r\n{"f":1}'
    )
    assert seen[1].startswith(b"GET /v1/x HTTP/1.1\r\n")


def test_an_error_answer_is_raised_with_its_status(serve):
    body = b'{"error":{"code":"AlreadyFinished","message":"no","exit_status":3}}'
    head = f"HTTP/1.1 409 X\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    serve([head + body])
    with pytest.raises(AnsweredError, match=r"^no$") as caught:
        send("GET", "/")
    assert (caught.value.exit_status, caught.value.code) == (3, "AlreadyFinished")


def test_unavailable_for_a_moment_can_be_tried_again(serve):
    serve([b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"])
    with pytest.raises(DaemonAway):
        send("GET", "/")


@pytest.mark.parametrize(
    "text", ["", "Internal Server Error", "[]", '{"error": 3}', '{"error": {}}']
)
def test_an_error_without_words_is_still_one_sentence(text):
    message, code, status = read_error(500, text)
    assert message.startswith("the daemon failed (HTTP 500) and said: ")
    assert (code, status) == ("DaemonFailed", 1)


def test_warnings_come_in_headers(serve):
    lines = b"X-Dora-Warning: a%20b\r\nx-dora-warning: %C3%BC %zz 100%\r\n"
    serve([OK + lines + b"Content-Length: 0\r\n\r\n"])
    answer = send("GET", "/")
    assert answer.read() == b""
    assert answer.warnings() == ["a b", "ü %zz 100%"]


def test_a_silent_daemon_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setenv("DORABATCH_SOCKET", str(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(DaemonAway, match="did not answer within 60 s") as caught:
            send("GET", "/", seconds_max=0.05)
    assert caught.value.is_sent


def test_no_socket_and_no_right_to_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DORABATCH_SOCKET", str(tmp_path / "none"))
    with pytest.raises(DaemonAway, match="there is no such socket") as caught:
        send("GET", "/")
    assert not caught.value.is_sent
    monkeypatch.setenv("DORABATCH_SOCKET", str(tmp_path / "no" / "none"))
    with pytest.raises(DaemonUnavailable) as caught_too:
        send("GET", "/")
    assert not isinstance(caught_too.value, DaemonAway)


@pytest.mark.parametrize(
    ("body", "read"),
    [(b"nonsense", read_record), (b"[]", read_record)],
)
def test_an_answer_of_another_shape_is_refused(serve, body, read):
    serve([OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body])
    with pytest.raises(DaemonUnavailable):
        read(send("GET", "/"))


def test_quoting():
    assert target("/a", []) == "/a"
    assert quote("ana/blue.red", keep=b"/") == "ana/blue.red"
    assert quote("a/b?c#d%e\udcff\n") == "a%2Fb%3Fc%23d%25e%FF%0A"
    assert unquote(quote("ü€ %41 /")) == "ü€ %41 /"
