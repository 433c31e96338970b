"""The numbered steps of a container's life, where a fault test may stop the daemon.

Names the steps and, when told to by a setting, kills the process at one of them.
Changes nothing else.
"""

import os
import signal
from enum import StrEnum


class Step(StrEnum):
    """Moments between two effects, in the order in which they are reached."""

    SUBMIT_STORED = "submit-stored"
    PLACE_COMMITTED = "place-committed"
    IMAGE_READY = "image-ready"
    START_INTENDED = "start-intended"
    CREATED = "created"
    STARTED = "started"
    START_RECORDED = "start-recorded"
    END_SEEN = "end-seen"
    END_RECORDED = "end-recorded"
    STOPPED = "stopped"
    LOG_SAVED = "log-saved"
    REMOVED = "removed"
    END_CONFIRMED = "end-confirmed"
    CREDIT_POSTED = "credit-posted"
    CREDIT_COMMITTED = "credit-committed"


CREDIT_STEPS = (Step.CREDIT_POSTED, Step.CREDIT_COMMITTED)
"""Reached where something is charged while it runs, the first inside a transaction."""


class Steps:
    """Told at each step; kills the process when it is the one set for a test."""

    def __init__(self, crash_at: Step | None = None) -> None:
        self._crash_at = crash_at

    def reach(self, step: Step) -> None:
        """A step has been reached."""
        if step is self._crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
