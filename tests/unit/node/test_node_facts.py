"""What answers of nodes mean, and which answers are no answers."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorabatch.errors import NodeError
from dorabatch.node.facts import (
    ContainerState,
    fingerprint_of,
    host_key_of,
    is_fingerprint,
    parse_event,
    parse_image,
    parse_inspect,
    parse_probe,
    parse_summary,
    parse_time,
)

GPU = {
    "uuid": "GPU-1",
    "model": "Tesla V100",
    "minor": 0,
    "memory_mib": 16384,
    "memory_used_mib": 3,
    "utilization_percent": None,
    "process_pids": [9, 4, 9],
}
PROBE: dict[str, Any] = {
    "hostname": "n1",
    "boot_id": "b",
    "cores": [2, 0, 1],
    "cpu_model": "cpu",
    "memory_mib": 100,
    "gpus": [GPU],
    "driver_version": "535",
    "probe": "pynvml",
    "gpu_error": None,
    "disk_free_mib": 5,
    "started_at": 1000.0,
    "printed_at": 1000.2,
}


def probe(
    changes: dict[str, Any], *, asked_at: float = 0, answered_at: float = 0
) -> Any:
    return parse_probe(
        json.dumps({**PROBE, **changes}),
        docker_version="20",
        asked_at=asked_at,
        answered_at=answered_at,
    )


def test_probe() -> None:
    facts = probe({}, asked_at=997.9, answered_at=998.3)
    assert facts.cores == (0, 1, 2)
    assert facts.gpus[0].process_pids == (4, 9)
    assert facts.gpus[0].utilization_percent is None
    assert facts.clock_offset_seconds == 2.0
    assert facts.docker_version == "20"


def test_probe_takes_the_last_object_after_a_greeting() -> None:
    text = "Welcome to n1!\n" + json.dumps(PROBE) + "\n\n"
    facts = parse_probe(text, docker_version="", asked_at=0, answered_at=0)
    assert facts.hostname == "n1"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cores": []}, "core"),
        ({"cores": "0-3"}, "cores"),
        ({"cores": [True]}, "cores"),
        ({"cores": [None]}, "cores"),
        ({"probe": "magic"}, "magic"),
        ({"hostname": None}, "hostname"),
        ({"memory_mib": "100"}, "memory_mib"),
        ({"memory_mib": 1.5}, "memory_mib"),
        ({"gpus": None}, "gpus"),
        ({"gpus": [1]}, "expected an object"),
        ({"gpus": [{**GPU, "uuid": ""}]}, "uuid"),
        ({"gpus": [{**GPU, "uuid": "GPU-1,GPU-2"}]}, "uuid"),
        ({"gpus": [{**GPU, "process_pids": [1.5]}]}, "process_pids"),
        ({"gpus": [GPU, GPU]}, "twice"),
        ({"driver_version": 5}, "driver_version"),
        ({"started_at": None}, "started_at"),
        ({"printed_at": True}, "printed_at"),
        ({"disk_free_mib": "x"}, "disk_free_mib"),
    ],
)
def test_probe_refuses(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(NodeError, match=says):
        probe(changes)


@pytest.mark.parametrize("text", ["", "bash: python3: not found", "[1]", "{broken"])
def test_probe_refuses_what_is_no_object(text: str) -> None:
    with pytest.raises(NodeError, match="probe"):
        parse_probe(text, docker_version="", asked_at=0, answered_at=0)


def inspected(**state: Any) -> dict[str, Any]:
    base = {
        "Status": "exited",
        "ExitCode": 3,
        "OOMKilled": True,
        "Error": "",
        "Pid": 0,
        "StartedAt": "2026-01-02T03:04:05.123456789Z",
        "FinishedAt": "2026-01-02T03:04:06Z",
    }
    return {
        "Id": "abc",
        "Name": "/dora-x",
        "Config": {"Labels": {"a": "b"}},
        "State": {**base, **state},
    }


def test_inspect_of_an_ended_container() -> None:
    facts = parse_inspect(inspected())
    assert (facts.name, facts.container_id, facts.exit_code) == ("dora-x", "abc", 3)
    assert facts.oom_killed and facts.has_ended and facts.pid is None
    assert facts.started_at == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
    assert facts.finished_at == datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)


def test_inspect_of_a_running_container_has_no_end() -> None:
    facts = parse_inspect(inspected(Status="running", ExitCode=0, Pid=7))
    assert facts.exit_code is None and facts.finished_at is None
    assert facts.pid == 7 and not facts.has_ended


def test_inspect_of_a_new_container_has_no_times() -> None:
    zero = "0001-01-01T00:00:00Z"
    facts = parse_inspect(
        inspected(
            Status="created", StartedAt=zero, FinishedAt=zero, Error="no such file"
        )
    )
    assert facts.started_at is None and facts.exit_code is None
    assert facts.error == "no such file"


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"Id": "x", "Name": "y"},
        inspected(Status="melting"),
        inspected(Status=None),
        inspected(ExitCode=None),
        inspected(StartedAt="yesterday"),
        inspected(Pid="7"),
        {**inspected(), "Config": {"Labels": ["a"]}},
        {**inspected(), "Id": 5},
    ],
)
def test_inspect_refuses(document: object) -> None:
    with pytest.raises(NodeError):
        parse_inspect(document)


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        ("exited", "Exited (137) 2 seconds ago", 137),
        ("exited", "Exited (0) Less than a second ago", 0),
        ("dead", "Dead", None),
        ("running", "Up 3 minutes", None),
        ("created", "Created", None),
        ("exited", "", None),
    ],
)
def test_summary(state: str, status: str, code: int | None) -> None:
    entry = {"Id": "i", "Names": ["/n"], "State": state, "Status": status}
    facts = parse_summary({**entry, "Labels": None})
    assert (facts.name, facts.exit_code, facts.is_summary) == ("n", code, True)
    assert facts.state is ContainerState(state)


@pytest.mark.parametrize(
    "entry",
    [
        {"Id": "i", "Names": [], "State": "running"},
        {"Id": "i", "Names": [3], "State": "running"},
        {"Id": "i", "Names": None, "State": "running"},
        {"Id": "i", "Names": ["/n"], "State": "odd"},
        {"Names": ["/n"], "State": "running"},
    ],
)
def test_summary_refuses(entry: object) -> None:
    with pytest.raises(NodeError):
        parse_summary(entry)


def test_event() -> None:
    attributes = {"name": "n", "exitCode": "137", "dorabatch.cluster": "c"}
    event = parse_event(
        {
            "Action": "die",
            "Actor": {"ID": "i", "Attributes": attributes},
            "timeNano": 1_700_000_000_123_456_789,
        }
    )
    assert (event.action, event.name, event.exit_code) == ("die", "n", 137)
    assert event.labels["dorabatch.cluster"] == "c"
    assert event.at == datetime.fromtimestamp(1_700_000_000.123456, tz=UTC)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"Action": "die", "Actor": None, "timeNano": 1},
        {"Action": "die", "Actor": {"ID": "i"}, "timeNano": "1"},
        {"Action": 1, "Actor": {"ID": "i"}, "timeNano": 1},
    ],
)
def test_event_refuses(document: object) -> None:
    with pytest.raises(NodeError):
        parse_event(document)


def test_event_with_an_odd_exit_code_has_none() -> None:
    actor = {"ID": "i", "Attributes": {"exitCode": "many"}}
    event = parse_event({"Action": "die", "Actor": actor, "timeNano": 1})
    assert event.exit_code is None


def test_image() -> None:
    entry = {
        "Id": "sha256:a",
        "RepoTags": ["a:1", "<none>:<none>"],
        "RepoDigests": None,
        "Size": 5,
    }
    assert parse_image(entry).references == ("a:1",)
    with pytest.raises(NodeError):
        parse_image({**entry, "Size": None})


def test_fingerprint_is_ssh_keygens() -> None:
    key = host_key_of("ssh-ed25519", b"x")
    assert key.fingerprint == "SHA256:LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE"
    assert is_fingerprint(key.fingerprint)
    assert key.blob_base64 == "eA=="


@pytest.mark.parametrize(
    "text", ["", "SHA256:", "MD5:aa:bb", "SHA256:" + "a" * 42, "SHA256:" + "a" * 44]
)
def test_what_is_no_fingerprint(text: str) -> None:
    assert not is_fingerprint(text)


@given(st.binary(max_size=40))
def test_every_key_has_a_fingerprint(blob: bytes) -> None:
    assert is_fingerprint(fingerprint_of(blob))


@pytest.mark.parametrize(
    "value", [5, "2026", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "x" * 5]
)
def test_time_refuses(value: object) -> None:
    with pytest.raises(NodeError):
        parse_time(value)


def test_time_with_a_zone() -> None:
    assert parse_time("2026-01-01T02:00:00+02:00") == datetime(2026, 1, 1, tzinfo=UTC)
    assert parse_time("") is None and parse_time(None) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["State", "Config", "Id", "Name", "Names", "Status", "Labels"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_document_breaks_a_parser(document: object) -> None:
    for parse in (parse_inspect, parse_summary, parse_event, parse_image):
        try:
            parse(document)
        except NodeError:
            continue
