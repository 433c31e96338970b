"""The command `python -m tests.cluster`: makes, shows, breaks and removes clusters.

Turns arguments into calls of Cluster. Never does anything else by itself.
"""

import argparse
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.cluster import machine
from tests.cluster.cluster import Cluster, is_cluster, remove_leftovers
from tests.cluster.spec import ClusterError, NodeSpec

DIRECTORY_VARIABLE = "DORABATCH_CLUSTER_DIR"
DEFAULT_NODES = ("n1=Tesla V100-SXM2-16GB:4", "n2=Quadro RTX 6000:2", "n3=")
_SIGNALS = {
    "KILL": signal.SIGKILL,
    "TERM": signal.SIGTERM,
    "STOP": signal.SIGSTOP,
    "CONT": signal.SIGCONT,
}
_FAULTS = {
    "cut": "unplug a node's network cable",
    "heal": "plug it in again",
    "start-dockerd": "start a node's dockerd again",
    "rekey": "new ssh host key; sshd restarts, its sessions end",
    "refuse-key": "empty authorized_keys; open sessions stay",
    "accept-key": "restore authorized_keys",
    "end-sessions": "end a node's ssh sessions",
    "power-off": "end everything on a node at once",
    "power-on": "boot it again, with a new boot id",
    "reboot": "power-off, then power-on",
}


def main(arguments: list[str]) -> int:
    """Run one command; a failure is one sentence on stderr and status 1."""
    signal.signal(signal.SIGTERM, _end)
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cluster: interrupted", file=sys.stderr)
        return 130


def _end(number: int, _: FrameType | None) -> None:
    # As an exception, so that a half-made cluster is removed on the way out.
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument(
            "--dir",
            type=Path,
            default=os.environ.get(DIRECTORY_VARIABLE),
            help=f"its directory (else ${DIRECTORY_VARIABLE}, else the only one)",
        )
        return made

    up = command("up", "make a cluster")
    up.add_argument(
        "--nodes",
        nargs="+",
        metavar="NAME=MODEL:COUNT,...",
        default=DEFAULT_NODES,
        help=f"default: {' '.join(map(repr, DEFAULT_NODES))}",
    )
    up.add_argument("--instance", type=int, help="0 to 255, the X of 10.77.X.0/24")
    up.add_argument("--live-restore", action="store_true", help="of dockerd")
    up.add_argument("--json", action="store_true", help="print what was made as JSON")
    down = command("down", "remove a cluster")
    down.add_argument(
        "--all", action="store_true", help="every cluster of this machine"
    )
    status = command("status", "show a cluster")
    status.add_argument("--all", action="store_true", help="list the clusters instead")
    status.add_argument("--json", action="store_true")
    ssh = command("ssh", "run a command on a node through its sshd")
    ssh.add_argument("node")
    ssh.add_argument("words", nargs="*", metavar="-- COMMAND")
    kill = command("kill-dockerd", "signal a node's dockerd")
    kill.add_argument("node")
    kill.add_argument("--signal", choices=_SIGNALS, default="KILL")
    for name, text in _FAULTS.items():
        command(name, text).add_argument("node")
    return parser


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "up":
            _up(options)
        case "down":
            machine.check_machine()
            _down(options)
        case "status" if options.all:
            for directory, number in sorted(machine.instances().items()):
                print(f"{number}\t{directory}")
        case "status":
            _status(Cluster.load(_directory(options)), options.json)
        case "ssh":
            cluster = Cluster.load(_directory(options))
            command = cluster.ssh_command(options.node, *options.words)
            os.execvp(command[0], command)
        case "kill-dockerd":
            cluster = Cluster.load(_directory(options))
            cluster.kill_dockerd(options.node, _SIGNALS[options.signal])
        case fault:
            cluster = Cluster.load(_directory(options))
            getattr(cluster, fault.replace("-", "_"))(options.node)
    return 0


def _up(options: argparse.Namespace) -> None:
    def say(text: str) -> None:
        # JSON has stdout for itself.
        print(text, file=sys.stderr if options.json else sys.stdout, flush=True)

    specs = [
        NodeSpec.parse(text, live_restore=options.live_restore)
        for text in options.nodes
    ]
    cluster = Cluster(
        specs, directory=options.dir, instance=options.instance, say=say
    ).up()
    if options.json:
        print(json.dumps(cluster.describe(), indent=2))
    else:
        say(f"end it with: python -m tests.cluster down --dir {cluster.directory}")


def _down(options: argparse.Namespace) -> None:
    if options.all:
        directories = [Path(directory) for directory in machine.instances()]
    else:
        directories = [_directory(options)]
    for directory in directories:
        if not is_cluster(directory.resolve()):
            raise ClusterError(
                f"there is no cluster in {directory}; nothing was removed"
            )
        remove_leftovers(directory.resolve())
        print(f"cluster in {directory} removed")


def _directory(options: argparse.Namespace) -> Path:
    """The directory that was named, else that of the only cluster there is."""
    if options.dir is not None:
        return Path(options.dir)
    known = sorted(machine.instances())
    if len(known) == 1:
        return Path(known[0])
    if not known:
        raise ClusterError(
            "no cluster is up on this machine; make one with "
            "`python -m tests.cluster up`"
        )
    raise ClusterError(
        f"{len(known)} clusters are up ({', '.join(known)}); say which with --dir or "
        f"${DIRECTORY_VARIABLE}"
    )


def _status(cluster: Cluster, is_json: bool) -> None:
    states = [dataclasses.asdict(node.status()) for node in cluster.nodes.values()]
    if is_json:
        print(json.dumps({**cluster.describe(), "status": states}, indent=2))
        return
    print(f"cluster {cluster.instance.number} in {cluster.directory}")
    print(f"registry {cluster.registry}, client key {cluster.client_key}")
    for node, state in zip(cluster.nodes.values(), states, strict=True):
        gpus = ", ".join(f"{count} x {model}" for model, count in node.spec.gpus)
        print(
            f"{state['name']:<10} {state['address']:<14} "
            f"{'on' if state['is_on'] else 'off':<4} cable {state['cable']:<4} "
            f"sshd {state['sshd']:<4} dockerd {state['dockerd']:<8} "
            f"key {'accepted' if state['accepts_key'] else 'refused':<9} "
            f"{gpus or 'no GPUs'}"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
