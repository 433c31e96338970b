"""Real dorad processes for tests: started from a settings file, killed, started again.

Talks to them through the commands only. Never looks into their database.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

BIN = Path(sys.executable).parent
_WAIT_SECONDS = 30.0
_PAUSE_SECONDS = 0.05

Settings = Mapping[str, Any]


class Dorad:
    """One daemon: its folder outlives its process, so that it can be started again."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.socket = folder / "dorad.sock"
        self.config = folder / "dorad.yaml"
        self.log = folder / "dorad.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.program: tuple[str | Path, ...] = (BIN / "dorad", "--config", self.config)
        state = {"socket": str(self.socket), "state_dir": str(folder / "state")}
        self.config.write_text(yaml.safe_dump({**state, **settings}))

    def start(self, **environment: str) -> "Dorad":
        """Start it and wait until it answers."""
        self.launch(**environment)
        self._wait_until(self._answers, "the daemon's socket")
        return self

    def launch(self, **environment: str) -> None:
        """Start the process and do not wait."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.program,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"dorad did not end in time:\n{self.tail()}") from None
        finally:
            self.process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        self.stop(signal.SIGKILL)

    def wait_for_exit(self) -> int:
        """Wait until it has ended by itself; its exit status."""
        assert self.process is not None
        status = self.process.wait(_WAIT_SECONDS)
        self.process = None
        return status

    def run(
        self, command: str, *words: str, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the commands against this daemon; never raises for its status."""
        return subprocess.run(
            [BIN / command, *words],
            env={**os.environ, "DORABATCH_SOCKET": str(self.socket)},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_WAIT_SECONDS * 3,
            check=False,
        )

    def ask(self, command: str, *words: str, stdin: str = "") -> str:
        """Standard output of a command that must succeed."""
        done = self.run(command, *words, stdin=stdin)
        assert done.returncode == 0, (
            f"{command} {' '.join(words)} ended with {done.returncode}: {done.stderr}\n"
            f"{self.tail()}"
        )
        return done.stdout

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """`dstat --all --json` with more words, as data."""
        found: list[dict[str, Any]] = json.loads(
            self.ask("dstat", "--all", "--json", *words)
        )
        return found

    def nodes(self) -> list[dict[str, Any]]:
        """`dnode list --json`, as data."""
        found: list[dict[str, Any]] = json.loads(self.ask("dnode", "list", "--json"))
        return found

    def submit(self, *words: str) -> str:
        """Submit with dsub; the id."""
        return self.ask("dsub", "--parsable", *words).strip()

    def wait_for(self, ref: str, **wanted: object) -> dict[str, Any]:
        """Wait until a workload's row has these values, such as state="running"."""
        row: dict[str, Any] = {}

        def is_there() -> bool:
            nonlocal row
            row = self.rows(ref)[0]
            return all(row[key] == value for key, value in wanted.items())

        self._wait_until(is_there, f"workload {ref} to show {wanted}", lambda: row)
        return row

    def wait_for_nodes(self, count: int) -> None:
        """Wait until so many nodes are ready."""
        self._wait_until(
            lambda: (
                sum(node["state"].lower() == "ready" for node in self.nodes()) >= count
            ),
            f"{count} nodes to be ready",
        )

    def tail(self, lines: int = 30) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise AssertionError(f"dorad ended while starting:\n{self.tail()}")
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def _wait_until(
        self,
        condition: Callable[[], bool],
        what: str,
        seen: Callable[[], object] = lambda: "",
    ) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"waited in vain for {what}; {seen()}\n{self.tail()}"
                )
            time.sleep(_PAUSE_SECONDS)
