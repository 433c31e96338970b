"""Whether the daemon is well: its threads get on, and the database takes writes.

Asks the database through the writer, which changes nothing by it, and waits for the
answer only so long. Mends nothing.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from dorabatch import log
from dorabatch.daemon.state.clock_steps import ClockSteps
from dorabatch.daemon.state.threads import WatchedThreads
from dorabatch.db import Tx, Writer
from dorabatch.errors import DorabatchError

ANSWER_SECONDS_MAX = 5.0
WELL = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """Threads that have died or fail all the time, and the database in words.

    Steps of the machine's clock harm nothing: how many, and by how many seconds it is
    ahead of the daemon's time now.
    """

    threads_dead: tuple[str, ...]
    threads_failing: Mapping[str, str]
    database: str
    clock_steps: int = 0
    clock_ahead_seconds: float = 0.0

    @property
    def is_ok(self) -> bool:
        """Nothing is wrong."""
        is_troubled = self.threads_dead or self.threads_failing
        return not is_troubled and self.database == WELL

    @property
    def sentence(self) -> str:
        """Everything that is wrong, or that nothing is."""
        wrong = [f"thread {name} has ended" for name in self.threads_dead]
        for name, problem in self.threads_failing.items():
            wrong.append(f"thread {name}: {problem}")
        if self.database != WELL:
            wrong.append(f"database: {self.database}")
        return "; ".join(wrong) or WELL


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What is asked after the daemon's health."""

    threads: WatchedThreads
    writer: Writer
    clock_steps: ClockSteps
    seconds_max: float = ANSWER_SECONDS_MAX

    async def check(self) -> HealthReport:
        """How it is now."""
        return HealthReport(
            threads_dead=self.threads.dead(),
            threads_failing=self.threads.failing(),
            database=await self._database(),
            clock_steps=self.clock_steps.count,
            clock_ahead_seconds=round(self.clock_steps.lead, 1),
        )

    async def _database(self) -> str:
        asked = asyncio.wrap_future(self.writer.post(_write_nothing))
        try:
            await asyncio.wait_for(asked, self.seconds_max)
        except TimeoutError:
            return f"no answer within {self.seconds_max:g} s"
        except DorabatchError as error:
            return error.message
        except SQLAlchemyError as error:
            # Its text may tell of what others do.
            log.failure("database", error, path="/v1/health")
            return f"failed with {type(error).__name__}; the daemon's log says why"
        return WELL


def _write_nothing(_tx: Tx) -> None:
    """Get a turn to write, and commit."""
