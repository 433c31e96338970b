"""Who came back: caps what they are ahead by, once for each return.

The rule is `fairshare.usage.caught_up`'s; ranks nobody.
"""

from datetime import datetime

from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.services import Services

MILLI = 1000


def notice_returns(services: Services, now: datetime) -> None:
    """Cap what those who came back are ahead by; once for each return."""
    if not services.usage.has_news():
        return
    rate = capacity_rate(services, now)
    services.writer.do(lambda tx: services.usage.join(tx, now, rate))


def capacity_rate(books: Books, now: datetime) -> float:
    """All GPUs of the zone in thousandths, each counted at its weight."""
    return MILLI * sum(
        books.usage.weight(gpu.model, now)
        for view in books.fleet.views()
        if view.facts is not None
        for gpu in view.facts.gpus
    )
