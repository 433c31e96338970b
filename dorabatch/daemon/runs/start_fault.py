"""Whose fault it is that a run was not started, by what the node or registry said.

Only what is surely the workload's own is called so: what is wrong with one node or one
registry must not fail jobs. The texts are those of Docker, containerd, runc and crun.

Pure: words in, a fault out; does nothing about it.
"""

import re
from collections.abc import Sequence
from enum import StrEnum

from dorabatch.errors import DorabatchError, ImagePullFailed, Refused, RegistrySilent


class Fault(StrEnum):
    """Who is to blame for a refused start."""

    JOB = "job"
    """The workload's own: it would be refused anywhere."""
    UNCLEAR = "unclear"
    """Of the workload's own image or command, or of the node."""
    PLACE = "place"
    """Nobody's: what it needs there (a volume, a port, a name) is not to be had."""
    NODE = "node"
    """The node's own: nothing that the workload says can be the cause."""
    REGISTRY = "registry"
    """The image's registry gives no answer."""


_JOBS_PULL = (
    "manifest unknown",
    "name unknown",
    "repository does not exist",
    "pull access denied",
    "requested access to the resource is denied",
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
    "no matching manifest for",
    "invalid reference format",
)
"""The registry's own answer: not there, or not without a login, which no node has."""
_JOBS_PULL_SHAPE = re.compile(r'failed to resolve reference "[^"]*": \S+: not found')
_REGISTRYS = (
    "dial tcp",
    "no such host",
    "name resolution",
    "connection refused",
    "connection reset",
    "connection timed out",
    "network is unreachable",
    "no route to host",
    "i/o timeout",
    "handshake timeout",
    "deadline exceeded",
    "request canceled",
    "too many requests",
    "toomanyrequests",
    "500 internal server error",
    "502 bad gateway",
    "503 service",
    "504 gateway",
    "unexpected http status: 5",
    "unexpected eof",
    "not here after",
)
_ENDS_EARLY = re.compile(r"\beof$")
_JOBS_START = (
    "minimum memory limit allowed",
    "needs to be an absolute path",
    "invalid reference format",
)
_PLACES = (
    "pullpolicy is never",
    "the name belongs to container",
    "the name stayed taken",
    "a newer daemon has made this",
    "take a new attempt number",
    "volume",
    "port is already allocated",
    "address already in use",
)
_UNCLEAR = ("cannot mkdir", "chdir to cwd", "unable to find user")
_PROCESS = (
    r"(?:unable to start container process|starting container process caused)\W+"
    r'(?:error during container init: )?exec: \\?"(?P<path>[^"\\]*)\\?": '
)
_NOT_FOUND = re.compile(
    _PROCESS + r"(?:executable file not found in \$path|stat (?P=path): no such file)"
)
_CRUN_NOT_FOUND = re.compile(r"crun: executable file `(?P<path>[^`]*)` not found")
_NOT_RUN = re.compile(_PROCESS)
_INIT = "docker-init"
"""What Docker itself puts before each command; it is the node's."""


def fault_of(refusal: DorabatchError, mounts: Sequence[str] = ()) -> Fault:
    """Who is to blame; `mounts` are the places of volumes in the container."""
    if isinstance(refusal, Refused):
        return Fault.JOB
    if isinstance(refusal, RegistrySilent):
        return Fault.REGISTRY
    lowered = refusal.message.lower()
    if any(word in lowered for word in _PLACES):
        return Fault.PLACE
    if isinstance(refusal, ImagePullFailed):
        return _fault_of_pull(lowered)
    return _fault_of_start(lowered, [one.lower() for one in mounts])


def _fault_of_pull(lowered: str) -> Fault:
    if _JOBS_PULL_SHAPE.search(lowered):
        return Fault.JOB
    # A registry that is overloaded may say `denied` and `too many requests`.
    if any(word in lowered for word in _REGISTRYS) or _ENDS_EARLY.search(lowered):
        return Fault.REGISTRY
    is_jobs = any(word in lowered for word in _JOBS_PULL)
    return Fault.JOB if is_jobs else Fault.NODE


def _fault_of_start(lowered: str, mounts: Sequence[str]) -> Fault:
    if any(word in lowered for word in _JOBS_START):
        return Fault.JOB
    found = _NOT_FOUND.search(lowered) or _CRUN_NOT_FOUND.search(lowered)
    if found is not None and _INIT not in found["path"]:
        is_mounted = any(_is_below(found["path"], one) for one in mounts)
        return Fault.UNCLEAR if is_mounted else Fault.JOB
    tried = _NOT_RUN.search(lowered)
    is_command = tried is not None and _INIT not in tried["path"]
    is_unclear = is_command or any(word in lowered for word in _UNCLEAR)
    return Fault.UNCLEAR if is_unclear else Fault.NODE


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")
