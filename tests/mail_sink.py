"""A real SMTP server that keeps what it is sent, and refuses on cue.

Listens on a port of its own on loopback; relays nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default
from socket import socket
from typing import Any

from aiosmtpd.controller import Controller


class MailSink:
    """The server; `answers` are given to the next DATA, then 250 to all."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.answers: list[str] = []
        self.refused_addresses: set[str] = set()
        with socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._controller: Controller | None = None

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address in self.refused_addresses:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            self.mails.append(message_from_bytes(envelope.content, policy=default))
        return answer

    def start(self) -> None:
        """Begin to listen."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def stop(self) -> None:
        """Refuse connections from here on."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None


@contextmanager
def mail_sink() -> Iterator[MailSink]:
    """A running sink."""
    sink = MailSink()
    sink.start()
    try:
        yield sink
    finally:
        sink.stop()
