"""Where the logs of ended attempts are kept.

Names files only; writes, reads and deletes none.
"""

from dataclasses import dataclass
from pathlib import Path

_WORKLOADS_A_FOLDER = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFiles:
    """The kept logs below one folder."""

    folder: Path

    def path(self, workload_id: int, replica: int, attempt: int) -> Path:
        """The kept log of one attempt."""
        thousand = str(workload_id // _WORKLOADS_A_FOLDER)
        return self.folder / thousand / str(workload_id) / f"{replica}.{attempt}.log"
