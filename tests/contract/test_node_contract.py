"""What every NodeDriver promises: one suite for the fake and for a real node."""

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dorabatch.daemon.runs.container_request import volume_name
from dorabatch.errors import ImagePullFailed, NodeError, NodeUnreachable, StartFailed
from dorabatch.node.container_spec import ContainerRequest, MountRequest
from dorabatch.node.docker_driver import open_node
from dorabatch.node.driver import NodeDriver
from dorabatch.node.facts import CODES_OF_A_STOP, ContainerState
from dorabatch.node.fake import FakeNode
from dorabatch.node.identity import RunIdentity, parse_identity
from dorabatch.node.ssh import NodeAddress

CLUSTER_ID = "contract"
# What a job does, for a shell and for the fake: output, exit code (None = runs on).
JOBS: dict[str, tuple[str, bytes, int | None]] = {
    "runs on": ("echo started; exec sleep 600", b"started\n", None),
    "fails": ("echo hello; echo oops >&2; exit 3", b"hello\noops\n", 3),
    "succeeds": ("true", b"", 0),
    "ends as if stopped": ("exit 143", b"", 143),
    "talks": ("seq 1 2000", b"".join(b"%d\n" % n for n in range(1, 2001)), 0),
}
numbers = itertools.count(1)


class Bench:
    """A driver, and jobs that it can run."""

    def __init__(self, driver: NodeDriver, unknown_image: str) -> None:
        self.driver = driver
        self.unknown_image = unknown_image

    def wish(self, job: str, **changes: Any) -> ContainerRequest:
        identity = RunIdentity(
            cluster_id=CLUSTER_ID, workload_id=next(numbers), replica=0, attempt=1
        )
        wish = ContainerRequest(
            identity=identity,
            image="busybox",
            argv=("sh", "-c", JOBS[job][0]),
            uid=1000,
            gid=1000,
            network="none",
        )
        return replace(wish, **changes)

    def run(self, job: str, **changes: Any) -> str:
        wish = self.wish(job, **changes)
        self.driver.create(wish)
        self.driver.start(wish.identity.name)
        return wish.identity.name

    def run_to_end(self, job: str) -> str:
        name = self.run(job)
        with self.driver.logs(name, follow=True) as stream:
            for _ in stream:
                pass
        # Docker may tell the end of the output a moment before that of the job.
        for _ in range(200):
            facts = self.driver.inspect(name)
            if facts is not None and facts.has_ended:
                return name
            threading.Event().wait(0.02)
        raise AssertionError(f"{name} does not end")


def act(node: FakeNode, name: str) -> None:
    """Let the fake's job do what the shell would."""
    script = node.containers[name].wish.argv[2]
    for line, output, code in JOBS.values():
        if line == script:
            node.write(name, output)
            if code is not None:
                node.exit(name, code)


def fake_bench(_request: pytest.FixtureRequest) -> Iterator[Bench]:
    node = FakeNode(now=lambda: datetime.now(UTC), images=("busybox",))
    node.registry = {"known:1"}
    node.when_started = act
    yield Bench(node, "unknown:1")
    node.close()


def real_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    cluster = request.getfixturevalue("cluster")
    node = cluster.nodes["n1"]
    driver = open_node(
        NodeAddress(
            name="n1",
            host=node.address,
            key_file=str(cluster.client_key),
            fingerprint=node.host_key_fingerprint,
        )
    )
    yield Bench(driver, f"{cluster.registry}/unknown:1")
    driver.close()
    docker = cluster.docker("n1")
    for container in docker.containers(all=True):
        docker.remove_container(container["Id"], force=True)


@pytest.fixture(
    params=[
        pytest.param(fake_bench, id="fake"),
        pytest.param(real_bench, id="real", marks=pytest.mark.integration),
    ]
)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    yield from request.param(request)


def test_ping_version_and_probe(bench: Bench) -> None:
    bench.driver.ping()
    assert bench.driver.version().api_version
    facts = bench.driver.probe()
    assert facts.cores and facts.boot_id and facts.memory_mib > 0
    assert bench.driver.is_alive()


def test_what_a_node_tells_around_an_end(bench: Bench) -> None:
    driver = bench.driver
    own = driver.inspect(bench.run_to_end("ends as if stopped"))
    told = bench.run("runs on")
    driver.stop(told, 1)
    stopped = driver.inspect(told)
    assert own is not None and own.started_at is not None and own.exit_code == 143
    assert stopped is not None and stopped.exit_code in CODES_OF_A_STOP

    around = driver.circumstances(own)
    assert around.boot_id == driver.boot_id() == driver.probe().boot_id
    assert around.booted_at is not None and around.docker_began_at is not None
    assert around.booted_at <= around.docker_began_at <= own.started_at <= around.now
    assert not around.was_signalled and not around.keeps_containers
    assert driver.circumstances(stopped).was_signalled
    assert driver.circumstances(None).boot_id == around.boot_id


def test_the_life_of_a_container(bench: Bench) -> None:
    driver = bench.driver
    wish = bench.wish("runs on", cores=(0,), memory_bytes=64 << 20)
    name = wish.identity.name
    container_id = driver.create(wish)
    made = driver.inspect(name)
    assert made is not None and made.state is ContainerState.CREATED
    assert made.container_id == container_id and made.started_at is None
    assert parse_identity(made.labels) == wish.identity
    driver.start(name)
    running = driver.inspect(name)
    assert running is not None and running.state is ContainerState.RUNNING
    assert running.pid and running.started_at is not None
    assert running.exit_code is None and not running.is_summary
    driver.update_cpuset(name, (0,))
    driver.stop(name, 0)
    ended = driver.inspect(name)
    assert ended is not None and ended.has_ended and ended.exit_code
    assert ended.finished_at is not None and ended.finished_at >= running.started_at
    driver.remove(name)
    assert driver.inspect(name) is None
    assert driver.list_ours(CLUSTER_ID) == ()


def test_every_step_may_be_repeated(bench: Bench) -> None:
    driver = bench.driver
    wish = bench.wish("runs on")
    name = wish.identity.name
    assert driver.create(wish) == driver.create(wish)
    for _ in range(2):
        driver.start(name)
    first = driver.inspect(name)
    assert driver.create(wish) == (first.container_id if first else "")
    for _ in range(2):
        driver.kill(name)
        driver.stop(name, 0)
    for _ in range(2):
        driver.remove(name)
    driver.stop(name, 0)
    driver.kill(name)


def test_an_ended_container_is_never_started_again(bench: Bench) -> None:
    name = bench.run_to_end("fails")
    before = bench.driver.inspect(name)
    bench.driver.start(name)
    assert bench.driver.inspect(name) == before
    assert before is not None and before.exit_code == 3


def test_a_name_of_another_run_is_not_taken_over(bench: Bench) -> None:
    wish = bench.wish("runs on")
    bench.driver.create(wish)
    bench.driver.start(wish.identity.name)
    other = replace(wish, argv=("sh", "-c", JOBS["fails"][0]))
    with pytest.raises(StartFailed, match=wish.identity.name):
        bench.driver.create(other)


def test_a_container_that_never_ran_gives_way_to_new_settings(bench: Bench) -> None:
    wish = bench.wish("runs on")
    first = bench.driver.create(wish)
    second = bench.driver.create(replace(wish, pids_limit=99))
    assert first != second
    assert len(bench.driver.list_ours(CLUSTER_ID)) == 1


def test_an_older_daemon_does_not_get_a_newer_ones_container(bench: Bench) -> None:
    wish = bench.wish("runs on")
    newer = replace(wish, identity=replace(wish.identity, epoch=5))
    bench.driver.create(newer)
    with pytest.raises(StartFailed, match="newer daemon"):
        bench.driver.create(wish)
    even_newer = replace(wish, identity=replace(wish.identity, epoch=6))
    bench.driver.create(even_newer)


def test_starting_nothing_fails(bench: Bench) -> None:
    with pytest.raises(StartFailed, match="no such container"):
        bench.driver.start("dora-contract-0-0-0")


def test_an_image_that_is_not_there(bench: Bench) -> None:
    assert bench.driver.has_image("busybox")
    assert not bench.driver.has_image(bench.unknown_image)
    with pytest.raises(StartFailed, match=r"[Nn]o such image"):
        bench.driver.create(bench.wish("succeeds", image=bench.unknown_image))
    with pytest.raises(ImagePullFailed, match="unknown"):
        bench.driver.pull(bench.unknown_image)
    names = [name for image in bench.driver.list_images() for name in image.references]
    assert any("busybox" in name for name in names)


def test_listing_shows_only_our_cluster(bench: Bench) -> None:
    ours = bench.run_to_end("fails")
    theirs = bench.wish("runs on")
    theirs = replace(theirs, identity=replace(theirs.identity, cluster_id="other"))
    bench.driver.create(theirs)
    try:
        (seen,) = bench.driver.list_ours(CLUSTER_ID)
        assert (seen.name, seen.exit_code, seen.is_summary) == (ours, 3, True)
    finally:
        bench.driver.remove(theirs.identity.name)


def test_logs_of_both_streams(bench: Bench) -> None:
    name = bench.run_to_end("fails")
    with bench.driver.logs(name) as stream:
        assert sorted(b"".join(stream).splitlines()) == [b"hello", b"oops"]
    with bench.driver.logs(name, tail=1) as stream:
        assert len(b"".join(stream).splitlines()) == 1


def test_logs_of_nothing(bench: Bench) -> None:
    with pytest.raises(NodeError, match=r"(?i)no such container"):
        bench.driver.logs("dora-contract-0-0-0")


def test_a_followed_log_is_closed_from_elsewhere(bench: Bench) -> None:
    name = bench.run("runs on")
    stream = bench.driver.logs(name, follow=True)
    assert next(stream) == b"started\n"
    end = in_thread(lambda: list(stream))
    stream.close()
    assert end() == []


def test_saved_log(bench: Bench, tmp_path: Path) -> None:
    name = bench.run_to_end("talks")
    whole = JOBS["talks"][1]
    path = tmp_path / "out.log"
    saved = bench.driver.save_log(name, path, 1 << 20)
    assert path.read_bytes() == whole
    assert (saved.byte_count, saved.is_truncated) == (len(whole), False)
    saved = bench.driver.save_log(name, path, 100)
    assert path.read_bytes() == whole[-100:] and saved.is_truncated
    assert list(tmp_path.iterdir()) == [path]


def test_events_tell_the_end_of_a_job(bench: Bench) -> None:
    with bench.driver.events(CLUSTER_ID) as events:
        name = bench.run("fails")
        seen = {}
        for event in events:
            seen[event.action] = event
            if event.action == "die":
                break
    assert {"create", "start", "die"} <= set(seen)
    assert seen["die"].name == name and seen["die"].exit_code == 3
    assert parse_identity(seen["die"].labels) is not None


def test_events_are_closed_from_elsewhere(bench: Bench) -> None:
    events = bench.driver.events(CLUSTER_ID)
    end = in_thread(lambda: list(events))
    events.close()
    assert end() == []


@pytest.mark.mission("M49")
def test_volumes(bench: Bench) -> None:
    mount = MountRequest(volume="dora-contract", target="/data")
    bench.driver.ensure_volume(mount)
    bench.driver.ensure_volume(mount)
    name = bench.run("runs on", mounts=(mount,))
    options = {"type": "nfs", "o": "addr=127.0.0.1", "device": ":/srv"}
    changed = replace(mount, driver_opts=options)
    with pytest.raises(NodeError, match="changed options"):
        bench.driver.ensure_volume(changed)
    with pytest.raises(NodeError, match="in use"):
        bench.driver.remove_volume("dora-contract")
    bench.driver.remove(name)
    bench.driver.ensure_volume(changed)
    bench.driver.remove_volume("dora-contract")
    bench.driver.remove_volume("dora-contract")


def test_many_threads_share_a_node(bench: Bench) -> None:
    ends = [in_thread(lambda: bench.run("runs on")) for _ in range(12)]
    names = {end() for end in ends}
    listed = {facts.name for facts in bench.driver.list_ours(CLUSTER_ID)}
    assert len(names) == 12 and listed == names


def test_disconnect_is_no_end_and_close_is(bench: Bench) -> None:
    name = bench.run("runs on")
    bench.driver.disconnect()
    facts = bench.driver.inspect(name)
    assert facts is not None and facts.state is ContainerState.RUNNING
    bench.driver.remove(name)
    bench.driver.close()
    assert not bench.driver.is_alive()
    with pytest.raises(NodeUnreachable, match="closed"):
        bench.driver.ping()


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start work; the returned function waits for it and gives its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()

    def result() -> Any:
        thread.join(60)
        assert not thread.is_alive(), "the work does not end"
        return results[0]

    return result


@pytest.mark.parametrize("login", ["CORP\\anna", "anna@corp.example", "müller", "svc$"])
def test_a_home_is_called_as_its_login(bench: Bench, login: str) -> None:
    wish = bench.wish("runs on")
    wish = replace(
        wish,
        identity=replace(wish.identity, workspace=login),
        mounts=(MountRequest(volume=volume_name(login, "data"), target="/data"),),
    )
    for mount in wish.mounts:
        bench.driver.ensure_volume(mount)
    bench.driver.create(wish)
    bench.driver.start(wish.identity.name)
    found = bench.driver.inspect(wish.identity.name)
    assert found is not None
    assert parse_identity(found.labels) == wish.identity
    bench.driver.remove(wish.identity.name)
    bench.driver.remove_volume(wish.mounts[0].volume)
