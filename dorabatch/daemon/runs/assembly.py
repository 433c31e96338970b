"""The keepers of a daemon, put together from what it keeps and how it acts.

Holds no rule of its own.
"""

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

from sqlalchemy import Engine

from dorabatch.daemon.runs.concluder import Concluder
from dorabatch.daemon.runs.container_request import ContainerRequests
from dorabatch.daemon.runs.image_pulls import ImagePulls
from dorabatch.daemon.runs.launcher import Launcher, NodeImages, SharedCores
from dorabatch.daemon.runs.lost_runs import LostRuns
from dorabatch.daemon.runs.node_keeper import Keepers, NodeHealth, NodeKeeper
from dorabatch.daemon.runs.node_work import ExpectedRuns, NodeWork, Wakeups
from dorabatch.daemon.runs.refusing_nodes import RefusingNodes
from dorabatch.daemon.runs.registry_trials import RegistryTrials
from dorabatch.daemon.runs.settle import Settlement
from dorabatch.daemon.runs.start_records import (
    EndRecords,
    RefusedStarts,
    StartRecords,
)
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.effects import Effects
from dorabatch.node.driver import NodeDriver
from dorabatch.queue import store


def keepers_of(
    books: Books,
    effects: Effects,
    *,
    kind: type[NodeKeeper] = NodeKeeper,
    workers: Callable[[str], Executor] | None = None,
) -> Keepers:
    """The keepers of all nodes; `workers(node)` do all the work on a node.

    Without them, images are fetched by others than what starts and ends containers.
    """
    node_settings = books.settings.node
    pool = partial(worker_threads, node_settings.launches_at_once, "work")
    pull_pool = partial(worker_threads, node_settings.pulls_at_once, "pull")
    refusing = refusing_nodes_of(books, effects)

    def make(node: str, driver: NodeDriver) -> NodeKeeper:
        work = (workers or pool)(node)
        pulls = work if workers else pull_pool(node)
        expected = ExpectedRuns(
            node,
            books.board,
            requests_of(books, effects),
            effects.clock,
            books.settings.node,
            partial(past_attempts, effects.engine),
        )
        return kind(
            driver,
            NodeHealth(
                node,
                driver,
                books.fleet,
                effects.writer,
                effects.clock,
                books.settings,
            ),
            expected,
            _work_on(books, effects, refusing, expected, driver, (work, pulls)),
            effects.cycle_wanted,
            effects.threads,
        )

    return Keepers(books.fleet, effects.open_driver, make, refusing)


def refusing_nodes_of(books: Books, effects: Effects) -> RefusingNodes:
    """The nodes that refuse starts."""
    return RefusingNodes(
        books.fleet, effects.outbox, effects.writer, effects.clock, books.settings
    )


def past_attempts(
    engine: Engine, workloads: Collection[int]
) -> dict[tuple[int, int], int]:
    """The latest attempts of workloads on disk, by (workload, replica)."""
    with engine.connect() as connection:
        return store.latest_attempts(connection, workloads)


def lost_runs_of(books: Books, effects: Effects) -> LostRuns:
    """What ends runs without their node's word."""
    return LostRuns(
        fleet=books.fleet,
        writer=effects.writer,
        clock=effects.clock,
        settings=books.settings,
        settlement=Settlement(billing=books.billing, usage=books.usage),
    )


def worker_threads(count: int, kind: str, node: str) -> Executor:
    """So many threads for one kind of work on a node."""
    return ThreadPoolExecutor(max_workers=count, thread_name_prefix=f"{kind}-{node}")


def requests_of(books: Books, effects: Effects) -> ContainerRequests:
    """What attempts are called and ask Docker for."""
    return ContainerRequests(
        board=books.board,
        fleet=books.fleet,
        identity=effects.identity,
        settings=books.settings,
    )


def _work_on(
    books: Books,
    effects: Effects,
    refusing: RefusingNodes,
    expected: ExpectedRuns,
    driver: NodeDriver,
    workers: tuple[Executor, Executor],
) -> NodeWork:
    """The work of one node, by (who starts and ends, who fetches images)."""
    node, requests = expected.node, requests_of(books, effects)
    cores = SharedCores(node, driver, books.board, requests)
    starts = StartRecords(
        board=books.board,
        writer=effects.writer,
        clock=effects.clock,
        steps=effects.steps,
        refused_starts=RefusedStarts(
            registries=books.registries,
            avoided=books.avoided,
            nodes=refusing,
            clock=effects.clock,
            launch=books.settings.launch,
        ),
        launch=books.settings.launch,
    )
    ends = EndRecords(
        board=books.board,
        writer=effects.writer,
        clock=effects.clock,
        settlement=Settlement(billing=books.billing, usage=books.usage),
        launch=books.settings.launch,
    )
    wanted = Wakeups(cycle=effects.cycle_wanted, look=threading.Event())
    pulls = ImagePulls(driver, workers[1], effects.fetches, wanted.look.set)
    images = NodeImages(node, driver, books.registries, pulls)
    launcher = Launcher(driver, requests, images, cores, starts, effects.steps)
    concluder = Concluder(
        driver, requests, cores, ends, effects.log_files, effects.steps
    )
    trials = RegistryTrials(
        driver,
        books.registries,
        refusing,
        books.board,
        effects.clock,
        effects.cycle_wanted,
    )
    return NodeWork(expected, launcher, concluder, trials, workers[0], wanted)
