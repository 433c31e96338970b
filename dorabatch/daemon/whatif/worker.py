"""A process of its own that answers a what-if: JSON in, lines of JSON out.

Runs at low priority beside the daemon, which ends it when the asker goes away, and
plays in as many processes as there are processors but one, and at least two. Touches no
database and no node.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any, TextIO

from dorabatch.daemon.whatif.compare import Plays, compared
from dorabatch.daemon.whatif.play import Play
from dorabatch.daemon.whatif.plot import plot_html
from dorabatch.daemon.whatif.site_history import Played, WhatifQuestion, question_of

NICE = 10
_Task = tuple[str, int]


def answer(
    question: WhatifQuestion,
    on_progress: Callable[[float], None] | None = None,
    *,
    processes: int = 1,
) -> dict[str, Any]:
    """Play a question as often as it wants, and compare."""
    shakes = range(1, question.shakes + 1)
    tasks: list[_Task] = [("then", 0)]
    tasks += [(name, seed) for seed in shakes for name in ("then", "now")]
    parts = [0.0] * len(tasks)

    def tell(place: int, part: float) -> None:
        parts[place] = part
        if on_progress is not None:
            on_progress(sum(parts) / len(parts))

    if processes > 1:
        found = _played_beside(question, tasks, processes, tell)
    else:
        found = [
            _played(question, task, lambda part, at=at: tell(at, part))  # type: ignore[misc]  # bound now
            for at, task in enumerate(tasks)
        ]
    named = dict(zip(tasks, found, strict=True))
    plays = Plays(
        then=[named["then", seed] for seed in shakes],
        now=[named["now", seed] for seed in shakes],
        as_it_was=named["then", 0],
    )
    return compared(question, plays)


def main() -> int:
    """Read one question, tell the progress, write the answer."""
    os.nice(NICE)
    question = question_of(json.load(sys.stdin))
    processes = max(2, (os.cpu_count() or 1) - 1)
    with _own_output() as output:

        def write(record: dict[str, Any]) -> None:
            output.write(json.dumps(record) + "\n")
            output.flush()

        def tell(part: float) -> None:
            write({"progress": round(part, 3)})

        result = answer(question, tell, processes=processes)
        write({"result": result, "plot": plot_html(result)})
    return 0


def _own_output() -> TextIO:
    """The standard output, held by this process alone: those that play beside it must
    not keep the answer open when it ends."""
    output = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    return output


def _played(
    question: WhatifQuestion, task: _Task, on_progress: Callable[[float], None]
) -> Played:
    name, seed = task
    texts = question.then if name == "then" else question.now
    played = Play(question, texts, seed=seed, on_progress=on_progress).run()
    on_progress(1.0)
    return played


def _played_beside(
    question: WhatifQuestion,
    tasks: list[_Task],
    processes: int,
    tell: Callable[[int, float], None],
) -> list[Played]:
    """The plays in their order, each process taking every so many-th of them."""
    # A forked process would hold the others' ends of the pipes, and outlive this one.
    context = multiprocessing.get_context("spawn")
    open_ends: list[Connection] = []
    for first in range(min(processes, len(tasks))):
        ours, theirs = context.Pipe(duplex=False)
        mine = list(enumerate(tasks))[first::processes]
        context.Process(
            target=_play_some, args=(question, mine, theirs), daemon=True
        ).start()
        theirs.close()
        open_ends.append(ours)
    found: dict[int, Played] = {}
    while open_ends:
        for end in wait(open_ends):
            assert isinstance(end, Connection)
            try:
                place, told = end.recv()
            except EOFError:
                open_ends.remove(end)
                continue
            if isinstance(told, Played):
                found[place] = told
            else:
                tell(place, told)
    return [found[place] for place in range(len(tasks))]


def _play_some(
    question: WhatifQuestion, mine: list[tuple[int, _Task]], end: Connection
) -> None:
    try:
        for place, task in mine:
            end.send((place, _played(question, task, _Told(end, place))))
    except BrokenPipeError:
        # Nobody waits for it any more: the asker went away.
        return


class _Told:
    """Sends how far one play is; fails once nobody listens, which ends it."""

    def __init__(self, end: Connection, place: int) -> None:
        self._end = end
        self._place = place

    def __call__(self, part: float) -> None:
        self._end.send((self._place, part))


if __name__ == "__main__":
    sys.exit(main())
