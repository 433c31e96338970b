"""An image is fetched once for all who wait, apart from what starts, and it is told."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dorabatch.clock import FakeClock
from dorabatch.config import NodeSettings
from dorabatch.daemon.runs.image_pulls import ImagePulls
from dorabatch.daemon.state.image_fetches import ImageFetches, span_words
from dorabatch.errors import ImagePullFailed
from dorabatch.node.driver import PullProgress, RegistryAuth
from dorabatch.node.fake import ANY_IMAGE, FakeNode
from dorabatch.queue.states import State
from dorabatch.resources.cluster import NodeSpec
from tests.makers import START, gpus, hold
from tests.makers import facts as node_facts
from tests.unit.daemon.conftest import SECONDS, Parts, caller

IMAGE = "big:1"
Progress = Callable[[PullProgress], None]


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


class SlowNode(FakeNode):
    """A node whose registry takes its time: `go` lets what is fetched come."""

    def __init__(self, clock: FakeClock) -> None:
        has = node_facts(hostname="n1", gpus=gpus(4))
        super().__init__("n1", now=clock.now, facts=has, images=("small:1",))
        self.go = threading.Event()
        self.pulled: list[str] = []

    def pull(
        self,
        image: str,
        on_progress: Progress | None = None,
        auth: RegistryAuth | None = None,
    ) -> None:
        self.pulled.append(image)
        if on_progress is not None:
            for layer, status, now, total in (
                ("a", "Downloading", 30, 100),
                ("b", "Downloading", 50, 100),
                ("b", "Download complete", None, None),
                ("c", "Waiting", None, None),
                ("d", "Downloading", None, 100),
                ("d", "Extracting", 90, 100),
            ):
                on_progress(
                    PullProgress(
                        status=status, layer=layer,
                        current_bytes=now, total_bytes=total,
                    )
                )  # fmt: skip
        assert self.go.wait(SECONDS)
        super().pull(image, None, auth)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def node(clock: FakeClock) -> Iterator[SlowNode]:
    made = SlowNode(clock)
    yield made
    made.go.set()


def pulls_of(node: FakeNode, fetches: ImageFetches, heard: list[None]) -> ImagePulls:
    pool = ThreadPoolExecutor(1)
    return ImagePulls(node, pool, fetches, lambda: heard.append(None))


def test_all_who_wait_share_one_fetch(node: SlowNode, clock: FakeClock) -> None:
    fetches, heard = ImageFetches(clock), list[None]()
    pulls = pulls_of(node, fetches, heard)
    for container in range(5):
        assert not pulls.is_done(IMAGE, (container, 1))
        assert not pulls.is_done("other:1", (container, 1))
    wait_until(lambda: node.pulled == [IMAGE])
    clock.advance(200)
    wait_until(lambda: "43 %" in fetches.words("n1", IMAGE))
    assert fetches.words("n1", IMAGE) == (
        "its image big:1 is being fetched on n1 (for 3 min, 43 %)"
    )
    assert fetches.words("n1", "other:1") == (
        "its image other:1 is to be fetched on n1, after others"
    )
    assert fetches.words("n2", IMAGE) == ""
    node.go.set()
    wait_until(lambda: len(heard) == 2)
    assert all(pulls.is_done(IMAGE, (container, 1)) for container in range(5))
    assert node.pulled == [IMAGE, "other:1"]
    assert fetches.words("n1", IMAGE) == ""
    # Who had not waited for that one has it fetched anew: it may be another by now.
    assert not pulls.is_done(IMAGE, (9, 1))
    wait_until(lambda: len(node.pulled) == 3)
    pulls.stop()


def test_a_refusal_is_told_to_each_who_waited_once(
    node: SlowNode, clock: FakeClock
) -> None:
    heard: list[None] = []
    pulls = pulls_of(node, ImageFetches(clock), heard)
    node.registry.discard(ANY_IMAGE)
    for container in (1, 2):
        assert not pulls.is_done(IMAGE, (container, 1))
    node.go.set()
    wait_until(lambda: len(heard) == 1)
    for container in (1, 2):
        with pytest.raises(ImagePullFailed, match="manifest unknown"):
            pulls.is_done(IMAGE, (container, 1))
    node.registry.add(IMAGE)
    assert not pulls.is_done(IMAGE, (1, 2))
    wait_until(lambda: len(heard) == 2)
    assert pulls.is_done(IMAGE, (1, 2))
    pulls.stop()


def test_hanging_fetches_hold_up_no_ready_work(parts: Parts, node: SlowNode) -> None:
    settings = parts.books.settings.model_copy(
        update={"node": NodeSettings(launches_at_once=2, poll_seconds=0.05)}
    )
    made = parts.again(settings=settings, open_driver=lambda _: node)
    spec = NodeSpec(endpoint="ssh://127.0.0.1:1", hostKey="SHA256:" + "A" * 43)
    made.nodes.save(caller(is_admin=True), "n1", spec)
    try:
        for number in range(4):
            made.submit(f"big{number}", options={"image": IMAGE, "cpus": 1})
            place(made, number + 1)
        wait_until(lambda: node.pulled == [IMAGE])
        made.submit("small", options={"image": "small:1", "cpus": 1})
        place(made, 5)
        wait_until(lambda: made.container(5).state is State.RUNNING)
        board = made.books.board
        said = made.views.why.text(board.workloads[1], has_placement=False)
        assert "is placed: its image big:1 is being fetched on n1 (for 0 s, " in said
        node.go.set()
        for number in range(4):
            wait_until(
                lambda n=number: made.container(n + 1).state is State.RUNNING  # type: ignore[misc]
            )
        assert node.pulled == [IMAGE]
    finally:
        node.go.set()
        made.keepers.stop()


def place(made: Parts, workload_id: int) -> None:
    """Give it a place and hand it to its node, as a cycle does."""
    placed = made.place(made.container(workload_id), hold(gpus=(), gpu_models=()))
    made.keepers.launch(placed)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3660, "1 h 1 min")],
)
def test_spans_in_words(seconds: float, words: str) -> None:
    assert span_words(seconds) == words
