"""The images of the cluster: small busybox systems, and a registry that has one.

An image that needs no download: a tar made from the machine's own static busybox.
Never talks to a registry outside the machine.
"""

import gzip
import hashlib
import http.client
import io
import json
import platform
import signal
import tarfile
from pathlib import Path

from tests.cluster.machine import (
    environment,
    find_tool,
    is_running,
    launch,
    owned_processes,
    run,
    send,
    wait_until,
)
from tests.cluster.spec import ClusterError, Instance

REGISTRY_IMAGE = "busybox"
REGISTRY_TAG = "1"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_FOLDERS = ("dev", "etc", "proc", "root", "run", "sys", "var", "var/tmp", "home")
_FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    ),
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
# Debian's busybox answers to `sh` and `ash` only.
_BASH = '#!/bin/sh\nexec /bin/sh "$@"\n'
_REGISTRY_CONFIG = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {folder}}}
  delete: {{enabled: true}}
http:
  addr: {address}
  secret: not-a-secret
"""


def rootfs_tar(*, has_bash: bool = False, marker: str = "") -> bytes:
    """Return a tar of a system made of busybox and a link for each of its names."""
    busybox = find_tool("busybox")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        names = run(busybox, "--list-full").split()
        parents = {str(parent) for name in names for parent in Path(name).parents}
        for folder in sorted((parents | set(_FOLDERS)) - {"."}):
            tar.addfile(_entry(folder, tarfile.DIRTYPE, 0o755))
        for folder in ("tmp",):
            tar.addfile(_entry(folder, tarfile.DIRTYPE, 0o1777))
        _add_file(tar, "bin/busybox", Path(busybox).read_bytes(), 0o755)
        for name in names:
            if name != "bin/busybox":
                link = _entry(name, tarfile.SYMTYPE, 0o777)
                link.linkname = "/bin/busybox"
                tar.addfile(link)
        for name, text in _FILES.items():
            _add_file(tar, name, text.encode(), 0o644)
        if has_bash:
            _add_file(tar, "bin/bash", _BASH.encode(), 0o755)
        if marker:
            _add_file(tar, "etc/image", marker.encode(), 0o644)
    return out.getvalue()


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.mode = mode
    return entry


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = _entry(name, tarfile.REGTYPE, mode)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def start_registry(directory: Path, instance: Instance) -> None:
    """Start the registry on the bridge and put its images there."""
    folder = directory / "registry"
    folder.mkdir()
    config = _config(directory)
    config.write_text(_REGISTRY_CONFIG.format(folder=folder, address=instance.registry))
    serve_registry(directory, instance)
    push_image(instance, REGISTRY_IMAGE, REGISTRY_TAG)
    # The nodes' dockerd asks this registry first for what it would ask Docker Hub.
    push_image(instance, "library/ubuntu", "latest", has_bash=True)


def serve_registry(directory: Path, instance: Instance) -> None:
    """Start the registry with what it has, and wait until it answers."""
    config, log = _config(directory), directory / "registry.log"
    launch(log, environment(directory), "docker-registry", "serve", str(config))
    wait_until(
        lambda: _is_answering(instance) or not is_running(directory, str(config)),
        20.0,
        lambda: f"the registry at {instance.registry} does not answer; see {log}",
    )


def stop_registry(directory: Path, instance: Instance) -> None:
    """End the registry at once; what it has stays on disk."""
    config = str(_config(directory)).encode()
    found = [
        pid
        for pid in owned_processes(directory)
        if config in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    send(found, signal.SIGKILL)
    wait_until(
        lambda: not _is_answering(instance),
        20.0,
        lambda: f"the registry at {instance.registry} does not end: {found}",
    )


def _config(directory: Path) -> Path:
    return directory / "registry.yml"


def push_image(
    instance: Instance, name: str, tag: str, *, has_bash: bool = False
) -> str:
    """Put a busybox image, whose layer no node has, into the registry."""
    # The name in its layer keeps it from being one that the nodes have already.
    tar = rootfs_tar(has_bash=has_bash, marker=f"{name}:{tag}\n")
    layer = gzip.compress(tar, compresslevel=1, mtime=0)
    machine = platform.machine()
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(tar)]},
            "history": [{"created_by": "tests/cluster"}],
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, config),
        "layers": [_descriptor(_LAYER, layer)],
    }
    connection = http.client.HTTPConnection(instance.registry, timeout=20)
    try:
        for blob in (layer, config):
            _push_blob(connection, name, blob)
        body = json.dumps(manifest).encode()
        path = f"/v2/{name}/manifests/{tag}"
        _ask(connection, "PUT", path, body, {"Content-Type": _MANIFEST})
    finally:
        connection.close()
    return f"{instance.registry}/{name}:{tag}"


def _push_blob(connection: http.client.HTTPConnection, name: str, blob: bytes) -> None:
    answer = _ask(connection, "POST", f"/v2/{name}/blobs/uploads/", b"", {})
    place = answer.getheader("Location") or ""
    path = "/v2/" + place.partition("/v2/")[2]
    path += f"{'&' if '?' in path else '?'}digest={_digest(blob)}"
    headers = {"Content-Type": "application/octet-stream"}
    _ask(connection, "PUT", path, blob, headers)


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
) -> http.client.HTTPResponse:
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    said = answer.read()
    if answer.status >= 300:
        raise ClusterError(
            f"the registry answered {method} {path} with {answer.status}: {said!r}"
        )
    return answer


def _is_answering(instance: Instance) -> bool:
    connection = http.client.HTTPConnection(instance.registry, timeout=2)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _descriptor(kind: str, content: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(content), "digest": _digest(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
