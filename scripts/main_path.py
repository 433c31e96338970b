"""Counts the modules that one submission enters on its way to RUNNING.

    python -m scripts.main_path [--json]

A whole daemon runs in memory on fake nodes (`tests.simulation`): its own writer, cycle,
keepers and launcher, on a SQLite file in a folder that is removed afterwards. The zone
has prices and the user a weekly limit, so credit is on the way too.

Counting begins when the daemon is up, its nodes are READY and it has had one beat with
nothing to do. It ends when the container is RUNNING on record. In between:

1. one HTTP request to the ASGI application, POST /v1/workloads, with the options of a
   `dsub` of one GPU for one hour;
2. one beat of the scheduling thread, which finds a place and commits it;
3. the node's work: image, intent, create, start, record.

The clock is a fake one and stands still: nothing that is done once a second, no look at
a node and no sending of mail is in the count. What other threads do for the submission
(the writer's work) is in it.

A module counts when a function of its file, found by the file's place below the folder
of dorabatch, was entered at least once, as the interpreter's profile hook tells. A
function is a `def` or a lambda, counted once however often it was entered. Never
counted: bodies of modules and classes, comprehensions and generator expressions, what
dataclasses make themselves, and all code outside dorabatch. The fake node is counted
where a real one's driver would be. What caches of the process already hold is not
entered again, so count in a new process. Judges nothing; its test does.
"""

import argparse
import asyncio
import inspect
import json
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import dorabatch
from dorabatch.daemon.api.assembly import app_of
from dorabatch.errors import invariant
from dorabatch.queue.states import State
from tests.simulation.world import PRICES, World

ROOT = Path(dorabatch.__file__).resolve().parent
UID = 2001
OPTIONS = {"image": "alpine:3", "cmd": ["true"], "gpus": "1", "time": "1h"}
LIMIT = f"""
---
apiVersion: v1
kind: User
metadata: {{name: uid-{UID}}}
spec:
  credits: [{{zone: dc-rov-01, weekly: 30, onExhaust: stop}}]
"""
_CREATED = 201
_LAMBDA = "<lambda>"


class Entered:
    """The code that was entered while counting, in order of the first entry."""

    def __init__(self) -> None:
        self.codes: dict[CodeType, None] = {}
        self.is_counting = False

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """What the interpreter calls at every call and return."""
        if self.is_counting and event == "call":
            self.codes.setdefault(frame.f_code)

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Be told of every thread that starts in here, and of this one."""
        before, before_threads = sys.getprofile(), threading.getprofile()
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(before)
            threading.setprofile(before_threads)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is entered in here."""
        self.is_counting = True
        try:
            yield
        finally:
            self.is_counting = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MainPath:
    """How many functions of each module were entered, in order of the first entry."""

    functions: Mapping[str, int]

    @property
    def total(self) -> int:
        """The functions of all modules together."""
        return sum(self.functions.values())

    def packages(self) -> dict[str, dict[str, int]]:
        """Package -> module -> its functions; what is in none is under `dorabatch`."""
        found: dict[str, dict[str, int]] = {}
        for module, functions in self.functions.items():
            package, _, name = module.rpartition(".")
            found.setdefault(package or ROOT.name, {})[name] = functions
        return found

    def wings(self) -> dict[str, dict[str, int]]:
        """Part of dorabatch -> its modules, with their functions."""
        found: dict[str, dict[str, int]] = {}
        for module, functions in self.functions.items():
            found.setdefault(module.split(".")[0], {})[module] = functions
        return found


def path_of(codes: Iterable[CodeType], root: Path = ROOT) -> MainPath:
    """Of the code entered, the functions of the files below a folder."""
    found: dict[str, int] = {}
    for code in codes:
        file = Path(code.co_filename)
        if is_function(code) and file.is_relative_to(root):
            module = _module(file.relative_to(root))
            found[module] = found.get(module, 0) + 1
    return MainPath(functions=found)


def is_function(code: CodeType) -> bool:
    """True for a `def` and a lambda; a class body has no locals of its own."""
    if code.co_name.startswith("<"):
        return code.co_name == _LAMBDA
    return bool(code.co_flags & inspect.CO_NEWLOCALS)


def _module(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def measure(folder: Path) -> MainPath:
    """Bring one submission to RUNNING in a daemon of its own, in an empty folder."""
    entered = Entered()
    with entered.threads():
        world = World(1, folder, credits=PRICES + LIMIT)
        try:
            parts = world.parts
            app = app_of(
                parts.books, parts.effects, parts.views, parts.intake, parts.keepers
            )
            world.daemon.turn()
            with entered.counting():
                status = asyncio.run(_submit(app))
                world.daemon.turn()
                for keeper in world.keepers():
                    world.work_off(keeper)
            states = [one.state for one in world.books.board.containers.values()]
        finally:
            world.close()
    invariant(status == _CREATED, f"the submission was answered {status}")
    invariant(states == [State.RUNNING], f"the submission came to {states}")
    return path_of(entered.codes)


async def _submit(app: Any) -> int:
    """The status of the answer to one submission."""
    answers: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        body = json.dumps({"options": OPTIONS}).encode()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        answers.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/workloads",
        "raw_path": b"/v1/workloads",
        "query_string": b"",
        "headers": [],
        "state": {"uid": UID, "gid": UID},
    }
    await app(scope, receive, send)
    return int(answers[0]["status"])


def as_text(path: MainPath) -> str:
    """For people: packages in order of their first entry, then the sums."""
    lines = []
    for package, modules in path.packages().items():
        lines.append(_line(package, modules))
        lines += [f"    {name:38} {count:5}" for name, count in modules.items()]
    lines.append("")
    lines += [_line(wing, modules) for wing, modules in path.wings().items()]
    lines.append(_line("in all", path.functions))
    return "\n".join(lines) + "\n"


def _line(name: str, modules: Mapping[str, int]) -> str:
    return f"{name:24} {len(modules):4} modules {sum(modules.values()):9} functions"


def as_json(path: MainPath) -> str:
    """For programs: the sums, and each package's modules with their functions."""
    record = {
        "modules": len(path.functions),
        "functions": path.total,
        "wings": {
            wing: {"modules": len(modules), "functions": sum(modules.values())}
            for wing, modules in path.wings().items()
        },
        "packages": path.packages(),
    }
    return json.dumps(record, indent=1) + "\n"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dorabatch-path-") as folder:
        path = measure(Path(folder))
    sys.stdout.write(as_json(path) if options.json else as_text(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
