"""dorad with a wall clock that is as many seconds ahead as a file says.

`python -m tests.stepped_dorad SETTINGS FILE`; what has passed is the machine's own.
"""

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

from dorabatch.clock import SystemClock, wall_time
from dorabatch.config import read_settings
from dorabatch.daemon.main import serve
from dorabatch.daemon.state.private_files import keep_private


def main(settings: Path, steps: Path) -> None:
    """Serve until told to end."""

    def stepped() -> datetime:
        return wall_time() + timedelta(seconds=float(steps.read_text()))

    keep_private()
    serve(read_settings(settings, os.environ), SystemClock(wall=stepped))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
