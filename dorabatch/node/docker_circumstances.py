"""Reads what a node tells around the end of a container: since when it has been up.

The kernel knows when dockerd's process began; where it is hidden, Docker's own bridge,
made anew by each dockerd, stands in for it. Never decides who ended the container.
"""

import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import docker
import orjson

from dorabatch.errors import NodeError
from dorabatch.node.docker_link import DockerSession, DriverLimits, words_of_answer
from dorabatch.node.facts import (
    CODES_OF_A_STOP,
    Circumstances,
    ContainerFacts,
    parse_time,
)

_COMMAND = "sh -s"
# A dockerd inside a container shows in /proc too, so the node's own pid file comes
# first. Field 22 of `stat` is when a process began, in ticks since the machine did.
SCRIPT = r"""
began() { sed -n 's/^.*) //p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
is_dockerd() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = dockerd ]; }
pids=$(cat /run/docker.pid 2>/dev/null)
if [ -z "$pids" ] || ! is_dockerd "$pids"; then
  pids=$(grep -lx dockerd /proc/[0-9]*/comm 2>/dev/null | sed 's|[^0-9]||g')
fi
echo "boot_id=$(cat /proc/sys/kernel/random/boot_id)"
for pid in $pids; do echo "dockerd=$(began "$pid")"; done
echo "first=$(began 1)"
echo "ticks=$(getconf CLK_TCK 2>/dev/null || echo 100)"
echo "uptime=$(cut -d' ' -f1 /proc/uptime)"
echo "now=$(date +%s.%N)"
"""
_SIGNALLED_BEFORE = timedelta(seconds=60)
_SIGNALLED_AFTER = timedelta(seconds=0.2)


def read_circumstances(
    session: DockerSession, limits: DriverLimits, ended: ContainerFacts | None
) -> Circumstances:
    """What the node tells around an end; a dockerd that goes down tells nothing."""
    keeps = was_signalled = False
    if ended is not None and ended.exit_code in CODES_OF_A_STOP:
        was_signalled = _was_signalled(session, limits, ended)
        keeps = session.api.info().get("LiveRestoreEnabled") is True
    # The process is looked at last: it is the one that has just answered.
    result = session.connection.run(_COMMAND, limits.probe_seconds, SCRIPT.encode())
    found = parse_circumstances(
        result.stdout.decode("utf-8", "replace"),
        was_signalled=was_signalled,
        keeps_containers=keeps,
    )
    if found.docker_began_at is not None:
        return found
    return replace(found, docker_began_at=_bridge_made_at(session))


def parse_circumstances(
    text: str, *, was_signalled: bool, keeps_containers: bool
) -> Circumstances:
    """What the script's lines mean."""
    pairs = [line.partition("=") for line in text.splitlines()]
    values = {key: value.strip() for key, _, value in pairs}
    # A `date` without %N knows whole seconds only.
    seconds = re.match(r"\d+(\.\d+)?", values.get("now", ""))
    boot_id = values.get("boot_id", "")
    if seconds is None or not boot_id:
        raise NodeError(f"circumstances: no boot or no clock in {text[-200:]!r}")
    now = datetime.fromtimestamp(float(seconds[0]), tz=UTC)
    uptime = re.fullmatch(r"\d+(\.\d+)?", values.get("uptime", ""))
    ticks = values.get("ticks", "")

    def moment(began: str) -> datetime | None:
        if not began.isdigit() or uptime is None or not ticks.isdigit():
            return None
        age = float(uptime[0]) - int(began) / int(ticks)
        return now - timedelta(seconds=age)

    began = [moment(value.strip()) for key, _, value in pairs if key == "dockerd"]
    return Circumstances(
        boot_id=boot_id,
        now=now,
        booted_at=moment(values.get("first", "")),
        docker_began_at=min((at for at in began if at is not None), default=None),
        keeps_containers=keeps_containers,
        was_signalled=was_signalled,
    )


def _was_signalled(
    session: DockerSession, limits: DriverLimits, ended: ContainerFacts
) -> bool:
    """Whether Docker remembers to have sent it a signal; asked on a new channel.

    One that goes down takes no new channel, which is how it is found out.
    """
    at = ended.finished_at
    if at is None:
        session.api.ping()
        return False
    filters = {"container": [ended.container_id], "event": ["kill"]}
    query = {
        "filters": orjson.dumps(filters).decode(),
        "since": f"{(at - _SIGNALLED_BEFORE).timestamp():.6f}",
        "until": f"{(at + _SIGNALLED_AFTER).timestamp():.6f}",
    }
    connection, response = session.open_stream(
        "GET",
        "/events",
        query=query,
        headers={},
        timeout_seconds=limits.answer_seconds,
    )
    try:
        if response.status >= 400:
            raise NodeError(f"events: {words_of_answer(response)}")
        return bool(response.read(1))
    finally:
        connection.abort()


def _bridge_made_at(session: DockerSession) -> datetime | None:
    """When dockerd made its bridge; None where it has none."""
    with suppress(docker.errors.NotFound):
        return parse_time(session.api.inspect_network("bridge").get("Created"))
    return None
