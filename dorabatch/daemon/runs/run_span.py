"""When a run began and ended, by the daemon's clock.

Pure. How long it ran is told by two stamps of its node's clock, so it does not matter
by how much that clock differs from the daemon's; a step of it during the run is bounded
by what the daemon saw itself.
"""

from datetime import datetime, timedelta

from dorabatch.node.facts import ContainerFacts


def run_span(
    recorded: datetime | None, facts: ContainerFacts | None, now: datetime
) -> tuple[datetime | None, datetime]:
    """(start, end) of a run that is over; `recorded`: its start as put on record.

    It never ends before its start. Where the node's stamps say nothing, it ended now.
    """
    began = facts.started_at if facts else None
    over = facts.finished_at if facts else None
    ran = over - began if began and over else None
    if ran is None or ran < timedelta():
        return recorded, max(now, recorded) if recorded else now
    if recorded is None:
        return now - ran, now
    # A daemon that began with its clock set back may have put down a later start.
    is_bound = now > recorded
    return recorded, min(recorded + ran, now) if is_bound else recorded + ran
