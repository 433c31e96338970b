"""Whose fault a refused start is, by texts that Docker, runc and registries gave."""

import pytest

from dorabatch.daemon.runs.start_fault import Fault, fault_of
from dorabatch.errors import (
    DorabatchError,
    ImagePullFailed,
    Refused,
    RegistrySilent,
    StartFailed,
)

RUNC = (
    "failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)
OLD_RUNC = (
    "OCI runtime create failed: container_linux.go:380: starting container process "
    "caused: "
)
HOOK = f"{RUNC}error during container init: error running hook #0: "
OLD_HOOK = (
    f"{OLD_RUNC}process_linux.go:545: container init caused: Running hook #0:: error "
    "running hook: exit status 1, stdout: , stderr: nvidia-container-cli: "
)
NO_RUNTIME = (
    "failed to create shim task: OCI runtime create failed: unable to retrieve OCI "
    "runtime error (open /run/containerd/x/log.json: no such file or directory): "
)
CLI = "error running hook: exit status 1, stdout: , stderr: nvidia-container-cli: "


@pytest.mark.parametrize(
    "message",
    [
        f'{RUNC}exec: "nosuch": executable file not found in $PATH: unknown',
        f'{OLD_RUNC}exec: "nosuch": executable file not found in $PATH: unknown',
        f'{RUNC}exec: "/opt/x": stat /opt/x: no such file or directory: unknown',
        f'{RUNC}error during container init: exec: "x": executable file not found in '
        "$PATH: unknown",
        "OCI runtime create failed: crun: executable file `x` not found in $PATH: No "
        "such file or directory: unknown",
        "Minimum memory limit allowed is 6MB",
        "the working directory 'x' is invalid, it needs to be an absolute path",
    ],
)
def test_what_is_surely_the_jobs(message: str) -> None:
    assert fault_of(StartFailed(message)) is Fault.JOB


@pytest.mark.parametrize(
    "message",
    [
        f"{NO_RUNTIME}runc did not terminate successfully: exit status 1: unknown",
        f"{NO_RUNTIME}fork/exec /usr/sbin/runc: no such file or directory: unknown",
        f'{NO_RUNTIME}exec: "runc": executable file not found in $PATH: unknown',
        f'{NO_RUNTIME}exec: "nvidia-container-runtime": executable file not found in '
        "$PATH: unknown",
        f"{HOOK}{CLI}initialization error: load library failed: libnvidia-ml.so.1: "
        "cannot open shared object file: no such file or directory: unknown",
        f"{HOOK}{CLI}mount error: permission denied: unknown",
        f"{HOOK}fork/exec /usr/bin/nvidia-container-runtime-hook: no such file or "
        "directory: unknown",
        f"{OLD_HOOK}initialization error: driver error: failed to process request",
        f"{OLD_HOOK}ldcache error: open failed: /sbin/ldconfig: no such file",
        'error running hook #0: fork/exec: exec: "nvidia-ctk": executable file not '
        "found in $PATH: unknown",
        'exec: "nvidia-container-runtime-hook": executable file not found in $PATH',
        'exec: "docker-init": executable file not found in $PATH',
        f'{RUNC}exec: "/sbin/docker-init": stat /sbin/docker-init: no such file or '
        "directory: unknown",
        f'{RUNC}exec: "/sbin/docker-init": permission denied: unknown',
        'failed to start shim: start failed: exec: "containerd-shim-runc-v2": '
        "executable file not found in $PATH: unknown",
        "open /var/lib/docker/overlay2/x: permission denied",
        "No such image: x:1",
        "no space left on device",
        'could not select device driver "nvidia" with capabilities: [[gpu]]',
        "Unknown runtime specified nvidia",
        "cgroup: cannot set memory limit: device or resource busy",
    ],
)
def test_what_is_the_nodes(message: str) -> None:
    assert fault_of(StartFailed(message)) is Fault.NODE


@pytest.mark.parametrize(
    "message",
    [
        f'{RUNC}exec: "/etc/passwd": permission denied: unknown',
        f'{RUNC}exec: "/x": exec format error: unknown',
        "Cannot mkdir: /etc/passwd is not a directory",
        f'{RUNC}error during container init: chdir to cwd ("/x") set in config.json '
        "failed: permission denied: unknown",
        "unable to find user nosuch: no matching entries in passwd file",
    ],
)
def test_what_may_be_either(message: str) -> None:
    assert fault_of(StartFailed(message)) is Fault.UNCLEAR


@pytest.mark.parametrize(
    "refusal",
    [
        StartFailed(
            "error while mounting volume '/var/lib/docker/volumes/x/_data': failed to "
            "mount local volume: mount nas:/x: permission denied"
        ),
        StartFailed("Bind for 0.0.0.0:20000 failed: port is already allocated"),
        StartFailed("create d: the name belongs to container 0123 (running), not ours"),
        ImagePullFailed("image 'x' is not on node n1 and pullPolicy is Never"),
    ],
)
def test_what_is_not_to_be_had_there(refusal: DorabatchError) -> None:
    assert fault_of(refusal) is Fault.PLACE


def test_a_command_on_a_volume_may_be_there_on_another_node() -> None:
    message = f'{RUNC}exec: "/data/x": stat /data/x: no such file or directory'
    assert fault_of(StartFailed(message), ["/other", "/data"]) is Fault.UNCLEAR
    assert fault_of(StartFailed(message), ["/dat"]) is Fault.JOB


@pytest.mark.parametrize(
    "message",
    [
        "manifest for 10.0.0.1:5000/x:9 not found: manifest unknown: manifest unknown",
        "pull access denied for x, repository does not exist or may require "
        "'docker login': denied: requested access to the resource is denied",
        "name unknown: repository name not known to registry",
        'failed to resolve reference "docker.io/library/x:9": '
        "docker.io/library/x:9: not found",
        "invalid reference format: repository name must be lowercase",
        "Head https://r.org/v2/x/manifests/1: unauthorized: authentication required",
        "Head https://r.org/v2/x/manifests/1: no basic auth credentials",
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
    ],
)
def test_what_the_registry_answers_is_final(message: str) -> None:
    assert fault_of(ImagePullFailed(f"image x: {message}")) is Fault.JOB


@pytest.mark.parametrize(
    "message",
    [
        'Get "https://10.0.0.1:5999/v2/": dial tcp 10.0.0.1:5999: connect: connection '
        "refused",
        'Get "https://r.org/v2/": dial tcp: lookup r.org on 127.0.0.1:53: read udp '
        "127.0.0.1:56433->127.0.0.1:53: read: connection refused",
        "dial tcp: lookup r.org: no such host",
        "dial tcp 10.0.0.1:443: i/o timeout",
        'Get "https://r.org/v2/": net/http: TLS handshake timeout',
        'Get "https://r.org/v2/": context deadline exceeded',
        'Get "https://r.org/v2/": EOF',
        "received unexpected HTTP status: 503 Service Unavailable",
        "toomanyrequests: You have reached your pull rate limit",
        "Head https://ghcr.io/v2/x/manifests/1: denied: too many requests",
        "not here after 1800 s",
    ],
)
def test_a_registry_that_does_not_answer(message: str) -> None:
    assert fault_of(ImagePullFailed(f"image x: {message}")) is Fault.REGISTRY


def test_the_rest() -> None:
    full = "write /var/lib/docker/tmp/x: no space left on device"
    assert fault_of(ImagePullFailed(full)) is Fault.NODE
    assert fault_of(RegistrySilent("whatever it said")) is Fault.REGISTRY
    assert fault_of(Refused("never")) is Fault.JOB
