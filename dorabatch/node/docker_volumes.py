"""Makes the named volume that a run needs, and its directory on the node.

Never touches a volume that dorabatch did not make, nor one that is in use, and never
follows a symbolic link to a volume's directory.
"""

import shlex
from collections.abc import Mapping
from typing import Any

import docker

from dorabatch.errors import NodeError
from dorabatch.node.container_spec import MountRequest
from dorabatch.node.docker_link import DockerSession, NodeLink, plain_words

VOLUME_LABEL = "dorabatch.managed"

# Makes a volume's directory, and refuses one that a symbolic link leads to.
_MAKE_DIRECTORY = r"""
path=$1 owner=$2
if [ ! -d "$path" ]; then
  mkdir -p -- "$path" || exit 1
  [ -z "$owner" ] || chown -- "$owner" "$path" || exit 1
fi
real=$(readlink -f -- "$path") || exit 1
if [ "$real" != "$path" ]; then
  echo "$path leads to $real through a symbolic link" >&2
  exit 1
fi
"""


def ensure_volume(session: DockerSession, link: NodeLink, mount: MountRequest) -> None:
    """Make the volume, or make it anew when its options have changed."""
    node = link.address.name
    wanted = dict(mount.driver_opts)
    try:
        found = session.api.inspect_volume(mount.volume)
    except docker.errors.NotFound:
        found = None
    if found is not None:
        if (found.get("Options") or {}) == wanted:
            return
        _drop_volume(session, node, mount.volume, found)
    if wanted.get("type") == "none":
        _make_directory(session, link, mount)
    session.api.create_volume(
        mount.volume,
        driver=mount.driver,
        driver_opts=wanted,
        labels={VOLUME_LABEL: "yes"},
    )


def _drop_volume(
    session: DockerSession, node: str, name: str, found: Mapping[str, Any]
) -> None:
    if (found.get("Labels") or {}).get(VOLUME_LABEL) != "yes":
        raise NodeError(
            f"node {node}: volume {name} is there with other options "
            f"({found.get('Options')}) and was not made by dorabatch; rename one"
        )
    try:
        session.api.remove_volume(name)
    except docker.errors.APIError as error:
        raise NodeError(
            f"node {node}: volume {name} has changed options, but a container still "
            f"uses the old ones: {plain_words(error)}"
        ) from error


def _make_directory(
    session: DockerSession, link: NodeLink, mount: MountRequest
) -> None:
    path = mount.driver_opts["device"]
    owner = ""
    if mount.owner_uid is not None and mount.owner_gid is not None:
        owner = f"{mount.owner_uid}:{mount.owner_gid}"
    command = shlex.join(["sh", "-s", path, owner])
    seconds = link.limits.probe_seconds
    result = session.connection.run(command, seconds, _MAKE_DIRECTORY.encode())
    if result.status != 0:
        words = result.stderr.decode("utf-8", "replace").strip()[-300:]
        raise NodeError(
            f"node {link.address.name}: volume {mount.volume}: directory {path} cannot "
            f"be used: {words}"
        )
