"""Which images nodes fetch at this moment, since when, and how far they are.

Written by the threads that fetch and read by those of the API, under a lock. Nothing is
on disk: a new daemon asks for what is missing anew. Fetches nothing.
"""

import threading

from dorabatch.clock import Clock
from dorabatch.node.driver import PullProgress

_LOADING = "Downloading"
_LOADED = ("Download complete", "Pull complete")
_MINUTE = 60


class _Fetch:
    """One image on its way; bytes of each layer, as far as Docker told."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.done: dict[str, int] = {}
        self.total: dict[str, int] = {}

    @property
    def percent(self) -> int | None:
        """How much of what Docker told of is there."""
        total = sum(self.total.values())
        return 100 * sum(self.done.values()) // total if total else None


class ImageFetches:
    """Every fetch of a zone, by node and image."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._fetches: dict[tuple[str, str], _Fetch] = {}

    def ask(self, node: str, image: str) -> None:
        """It is wanted, and its turn may come later."""
        with self._lock:
            self._fetches[node, image] = _Fetch()

    def begin(self, node: str, image: str) -> None:
        """It is being fetched from now on."""
        with self._lock:
            self._fetches[node, image].began = self._clock.monotonic()

    def note(self, node: str, image: str, progress: PullProgress) -> None:
        """Docker told of a layer."""
        layer, total = progress.layer, progress.total_bytes
        with self._lock:
            fetch = self._fetches[node, image]
            if progress.status == _LOADING and total:
                fetch.total[layer] = total
                fetch.done[layer] = min(progress.current_bytes or 0, total)
            elif progress.status in _LOADED and layer in fetch.total:
                fetch.done[layer] = fetch.total[layer]

    def end(self, node: str, image: str) -> None:
        """It is there, or cannot be had."""
        with self._lock:
            self._fetches.pop((node, image), None)

    def words(self, node: str, image: str) -> str:
        """A sentence on a fetch; empty where the image is not being fetched."""
        with self._lock:
            fetch = self._fetches.get((node, image))
            if fetch is None:
                return ""
            began, percent = fetch.began, fetch.percent
        if began is None:
            return f"its image {image} is to be fetched on {node}, after others"
        span = span_words(self._clock.monotonic() - began)
        part = "" if percent is None else f", {percent} %"
        return f"its image {image} is being fetched on {node} (for {span}{part})"


def span_words(seconds: float) -> str:
    """A span of time in its two largest units, seconds only below a minute."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    hours, minutes = divmod(whole // _MINUTE, _MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
