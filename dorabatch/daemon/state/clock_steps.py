"""Steps of the machine's wall clock: noticed, logged and counted.

They change nothing else: the daemon goes by what has passed since it began. Written by
the daemon's main thread, read by the API.
"""

from dorabatch import log
from dorabatch.clock import Clock

STEP_SECONDS_MIN = 1.0


class ClockSteps:
    """How often the wall clock was stepped while this daemon lives.

    `lead`: seconds by which it is ahead of the daemon's time since the last step.
    """

    def __init__(self) -> None:
        self.count = 0
        self.lead = 0.0

    def look(self, clock: Clock) -> None:
        """Compare the clocks."""
        lead = clock.wall_lead()
        step = lead - self.lead
        if abs(step) < STEP_SECONDS_MIN:
            return
        self.lead = lead
        self.count += 1
        log.warning(
            "clock-step",
            seconds=round(step, 1),
            ahead=round(lead, 1),
            meaning="limits and charges go on by the time that has passed",
        )
