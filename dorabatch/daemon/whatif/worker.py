"""A process of its own that answers a what-if: JSON in, lines of JSON out.

Runs at low priority beside the daemon, which ends it when the asker goes away. Touches
no database and no node.
"""

import json
import os
import sys
from typing import Any

from dorabatch.daemon.whatif.compare import PastJob, Question, answer, plot_html
from dorabatch.fairshare.shares import Account

NICE = 10


def question_of(record: dict[str, Any]) -> Question:
    """The question that `question_text` wrote."""
    return Question(
        jobs=tuple(PastJob(**job) for job in record.pop("jobs")),
        accounts=tuple(Account(**row) for row in record.pop("accounts")),
        **record,
    )


def main() -> int:
    """Read one question, tell the progress, write the answer."""
    os.nice(NICE)
    result = answer(question_of(json.load(sys.stdin)), _tell)
    _write({"result": result, "plot": plot_html(result)})
    return 0


def _tell(part: float) -> None:
    _write({"progress": round(part, 3)})


def _write(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
