"""What Docker is asked for: case tables, and a denial list over random wishes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.errors import Refused
from dorabatch.node.container_spec import (
    ContainerRequest,
    MountRequest,
    PortRequest,
    core_list,
    create_body,
    dropped_env,
    job_env,
    spec_digest,
)
from dorabatch.node.identity import RunIdentity, parse_identity

CASES = Path(__file__).parents[2] / "cases"
IDENTITY = RunIdentity(cluster_id="c1", workload_id=7, replica=1, attempt=2, epoch=3)
SMALL = ContainerRequest(identity=IDENTITY, image="busybox", uid=1000, gid=1000)


def load(name: str) -> list[Any]:
    cases = yaml.safe_load((CASES / name).read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["name"]) for case in cases]


def wish_of(fields: dict[str, Any]) -> ContainerRequest:
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in fields.items()
    }
    if "mounts" in values:
        values["mounts"] = tuple(MountRequest(**item) for item in values["mounts"])
    if "ports" in values:
        values["ports"] = tuple(PortRequest(**item) for item in values["ports"])
    if "identity" in values:
        values["identity"] = replace(IDENTITY, **values["identity"])
    return replace(SMALL, **values)


def at(body: Any, path: str) -> Any:
    for part in path.split("."):
        if part not in body:
            return "ABSENT"
        body = body[part]
    return body


@pytest.mark.mission("M19", "M39")
@pytest.mark.parametrize("case", load("container_spec_accepted.yaml"))
def test_accepted(case: dict[str, Any]) -> None:
    body = create_body(wish_of(case["wish"]))
    assert {path: at(body, path) for path in case["body"]} == case["body"]
    assert denied(body, may_use_host_network=True) == []


@pytest.mark.parametrize("case", load("container_spec_refused.yaml"))
def test_refused(case: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=case["says"]):
        create_body(wish_of(case["wish"]))


def test_environment_tells_the_run_and_hides_the_runtime() -> None:
    wish = wish_of(
        {
            "env": {
                "A": "1",
                "LD_PRELOAD": "/evil.so",
                "ld_library_path": "/evil",
                "DORA_REPLICA": "9",
                "NVIDIA_VISIBLE_DEVICES": "all",
                "NVIDIA_DRIVER_CAPABILITIES": "compute",
            },
            "gpu_uuids": ["GPU-a"],
            "identity": {"zone": "z", "workspace": "ana"},
        }
    )
    assert dropped_env(wish.env) == (
        "DORA_REPLICA",
        "LD_PRELOAD",
        "NVIDIA_VISIBLE_DEVICES",
        "ld_library_path",
    )
    assert job_env(wish) == {
        "A": "1",
        "NVIDIA_DRIVER_CAPABILITIES": "compute",
        "DORA_CLUSTER": "c1",
        "DORA_WORKLOAD_ID": "7",
        "DORA_REPLICA": "1",
        "DORA_ATTEMPT": "2",
        "DORA_GPUS": "GPU-a",
        "DORA_GPU_COUNT": "1",
        "DORA_ZONE": "z",
        "DORA_WORKSPACE": "ana",
        "NVIDIA_VISIBLE_DEVICES": "GPU-a",
    }


def test_a_job_without_gpus_sees_none_whatever_its_image_says() -> None:
    assert job_env(SMALL)["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_labels_say_whose_container_it_is() -> None:
    wish = wish_of({"labels": {"mine": "x"}, "gpu_uuids": ["GPU-a", "GPU-b"]})
    labels = create_body(wish)["Labels"]
    assert isinstance(labels, dict)
    assert labels["mine"] == "x"
    assert labels["dorabatch.gpus"] == "GPU-a,GPU-b"
    assert labels["dorabatch.spec-digest"] == spec_digest(wish)
    assert parse_identity(labels) == IDENTITY


def test_digest_sees_settings_and_not_the_epoch() -> None:
    digest = spec_digest(SMALL)
    assert digest == spec_digest(replace(SMALL, identity=replace(IDENTITY, epoch=9)))
    for other in (
        {"argv": ("x",)},
        {"gpu_uuids": ("GPU-a",)},
        {"memory_bytes": 1 << 30},
    ):
        assert spec_digest(replace(SMALL, **other)) != digest


def test_digest_sees_the_cores_of_its_own_and_not_those_it_shares() -> None:
    own = wish_of({"cores": (0, 1)})
    assert spec_digest(own) != spec_digest(replace(own, cores=(2, 3)))
    shared = wish_of({"cores": (0, 1), "nano_cpus": 500_000_000})
    assert spec_digest(shared) == spec_digest(replace(shared, cores=(2, 3)))


@pytest.mark.parametrize(
    ("cores", "text"),
    [((0,), "0"), ((0, 1, 2), "0-2"), ((5, 3, 1), "1,3,5"), ((4, 0, 1, 1), "0-1,4")],
)
def test_core_list(cores: tuple[int, ...], text: str) -> None:
    assert core_list(cores) == text


ALLOWED_TOP = {
    *("Image", "User", "Env", "Labels", "Tty", "OpenStdin", "StopSignal"),
    *("StopTimeout", "Healthcheck", "ExposedPorts", "HostConfig", "Cmd"),
    *("Entrypoint", "WorkingDir", "Hostname"),
}
ALLOWED_HOST_CONFIG = {
    *("AutoRemove", "RestartPolicy", "Privileged", "CapDrop", "CapAdd"),
    *("SecurityOpt", "Init", "IpcMode", "PidMode", "NetworkMode", "PidsLimit"),
    *("ShmSize", "GroupAdd", "ReadonlyRootfs", "LogConfig", "PortBindings"),
    *("Mounts", "Tmpfs", "CpusetCpus", "NanoCpus", "Memory", "MemorySwap"),
    "DeviceRequests",
}


def denied(body: Any, *, may_use_host_network: bool = False) -> list[str]:
    """What in a create body must never be there."""
    host = body["HostConfig"]
    expected = {
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": [],
        "SecurityOpt": ["no-new-privileges:true"],
        "IpcMode": "private",
        "PidMode": "",
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "Init": True,
    }
    found = [
        f"{key} is {host.get(key)!r}"
        for key, value in expected.items()
        if host.get(key) != value
    ]
    found += [f"unknown key {key}" for key in set(body) - ALLOWED_TOP]
    found += [f"unknown key {key}" for key in set(host) - ALLOWED_HOST_CONFIG]
    found += [
        f"mount of type {mount['Type']}"
        for mount in host["Mounts"]
        if mount["Type"] != "volume" or "/" in mount["Source"]
    ]
    if host["NetworkMode"] not in ("bridge", "none"):
        found += [] if may_use_host_network else [f"network {host['NetworkMode']}"]
    if "docker.sock" in str(host):
        found.append("docker.sock")
    if not host["PidsLimit"] > 0:
        found.append("no limit of processes")
    found += [
        f"variable {entry}"
        for entry in body["Env"]
        if entry.upper().startswith("LD_") or entry == "NVIDIA_VISIBLE_DEVICES=all"
    ]
    for request in host.get("DeviceRequests", []):
        if any(not uuid.startswith(("GPU-", "MIG-")) for uuid in request["DeviceIDs"]):
            found.append("GPUs that are not named by uuid")
    return found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("HostConfig.Privileged", True),
        ("HostConfig.CapAdd", ["SYS_ADMIN"]),
        ("HostConfig.CapDrop", []),
        ("HostConfig.SecurityOpt", ["seccomp=unconfined"]),
        ("HostConfig.PidMode", "host"),
        ("HostConfig.IpcMode", "host"),
        ("HostConfig.NetworkMode", "host"),
        ("HostConfig.NetworkMode", "container:x"),
        ("HostConfig.Binds", ["/:/host"]),
        ("HostConfig.Devices", []),
        ("HostConfig.UsernsMode", "host"),
        ("HostConfig.Runtime", "other"),
        ("HostConfig.RestartPolicy", {"Name": "always"}),
        ("HostConfig.Mounts", [{"Type": "bind", "Source": "x", "Target": "/x"}]),
        ("HostConfig.Mounts", [{"Type": "volume", "Source": "/etc", "Target": "/x"}]),
        ("HostConfig.Tmpfs", {"/run/docker.sock": ""}),
        ("HostConfig.PidsLimit", -1),
        ("HostConfig.DeviceRequests", [{"DeviceIDs": ["all"]}]),
        ("Env", ["LD_PRELOAD=x"]),
        ("Env", ["NVIDIA_VISIBLE_DEVICES=all"]),
        ("MacAddress", "x"),
    ],
)
def test_the_denial_list_notices(path: str, value: object) -> None:
    body: Any = create_body(SMALL)
    assert denied(body) == []
    *parents, last = path.split(".")
    for part in parents:
        body = body[part]
    body[last] = value
    assert denied(create_body(SMALL) | ({} if parents else body)) or denied(
        {**create_body(SMALL), "HostConfig": body}
    )


WORDS = st.one_of(
    st.sampled_from(
        [
            *("", "host", "/", "/etc", "/var/run/docker.sock", "all", "--privileged"),
            *("container:x", "SYS_ADMIN", "GPU-a", "busybox", "/srv/a", "bind", "none"),
            *("LD_PRELOAD", "NVIDIA_VISIBLE_DEVICES", "v", ":/srv", "nfs", "SIGTERM"),
        ]
    ),
    st.text(max_size=12),
)
PAIRS = st.dictionaries(WORDS, WORDS, max_size=3)
NUMBERS = st.integers(min_value=-2, max_value=1 << 40)
MOUNTS = st.builds(
    MountRequest,
    volume=WORDS,
    target=WORDS,
    driver=st.sampled_from(["local", "other"]),
    driver_opts=st.dictionaries(
        st.sampled_from(["type", "o", "device", "x"]), WORDS, max_size=3
    ),
)
WISHES = st.builds(
    ContainerRequest,
    identity=st.just(IDENTITY),
    image=WORDS,
    argv=st.lists(WORDS, max_size=2).map(tuple),
    env=PAIRS,
    labels=PAIRS,
    uid=st.sampled_from([0, 1000, -1]),
    gid=st.sampled_from([0, 1000]),
    allow_root=st.booleans(),
    gpu_uuids=st.lists(WORDS, max_size=2).map(tuple),
    memory_bytes=st.none() | NUMBERS,
    pids_limit=NUMBERS,
    network=WORDS,
    mounts=st.lists(MOUNTS, max_size=2).map(tuple),
    workdir=st.none() | WORDS,
    stop_signal=WORDS,
    hostname=st.none() | WORDS,
)


@pytest.mark.mission("M19")
@settings(max_examples=150, deadline=None)
@given(WISHES)
def test_no_wish_gets_a_privilege(wish: ContainerRequest) -> None:
    try:
        body = create_body(wish)
    except Refused:
        return
    assert denied(body) == []


@settings(max_examples=100, deadline=None)
@given(env=PAIRS, mounts=st.lists(MOUNTS, max_size=1).map(tuple), argv=st.lists(WORDS))
def test_no_part_gets_a_privilege(env: Any, mounts: Any, argv: Any) -> None:
    try:
        body = create_body(replace(SMALL, env=env, mounts=mounts, argv=tuple(argv)))
    except Refused:
        return
    assert denied(body) == []
