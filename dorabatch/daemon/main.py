"""`dorad`: reads settings, opens the database, puts the parts together, serves.

The composition root; holds no rule of its own.
"""

import fcntl
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TextIO

import click

from dorabatch import log
from dorabatch.clock import Clock, SystemClock
from dorabatch.config import Settings, read_settings
from dorabatch.daemon.schema import migrate, require_current
from dorabatch.daemon.service import Daemon
from dorabatch.daemon.state.charging import Asks, Billing
from dorabatch.daemon.state.claim_book import ClaimBook
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import DeclaredNode
from dorabatch.daemon.state.outbox import Mail, Outbox
from dorabatch.daemon.state.run_history import RunHistory
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.spec_units import claim_of, demand_of, seconds_max
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.daemon.steps import Step, Steps
from dorabatch.daemon.timers.mail_notices import Notifier
from dorabatch.db import Writer, is_in_transaction, open_engine, transaction
from dorabatch.errors import ConfigError, DorabatchError, invariant
from dorabatch.node.docker_driver import open_node
from dorabatch.node.docker_link import DriverLimits
from dorabatch.node.driver import NodeDriver
from dorabatch.node.ssh import NodeAddress, SshTimeouts
from dorabatch.queue import store
from dorabatch.queue.board import Board
from dorabatch.queue.daemons import refuse_when_overtaken, take_over

CONFIG_DEFAULT = Path("/etc/dorabatch.yaml")
CRASH_VARIABLE = "DORABATCH_FAULT_CRASH_AT"
"""Set by fault tests: the step at which the daemon kills itself."""


@click.group(invoke_without_command=True)
@click.version_option(package_name="dorabatch")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help=f"Settings file; {CONFIG_DEFAULT} when it exists.",
)
@click.pass_context
def cli(context: click.Context, config: Path | None) -> None:
    """Run the daemon of a zone.

    \b
    Examples:
      dorad --config /etc/dorabatch.yaml
      DORABATCH_STATE_DIR=/srv/dora dorad
      dorad --config FILE migrate --to head
    """
    if config is None and CONFIG_DEFAULT.exists():
        config = CONFIG_DEFAULT
    context.obj = read_settings(config, os.environ)
    if context.invoked_subcommand is None:
        serve(context.obj)


@cli.command("migrate")
@click.option("--to", default="head", show_default=True, help="Revision, or base.")
@click.pass_obj
def migrate_command(settings: Settings, to: str) -> None:
    """Bring the database to a revision, up or down."""
    click.echo(f"database is at revision {migrate(settings.database_url, to)}")


@cli.command("check")
@click.pass_obj
def check_command(settings: Settings) -> None:
    """Print the settings in force and whether they can be read."""
    click.echo(settings.model_dump_json(indent=2))


def main() -> None:
    """The entry point: errors are one sentence and an exit status."""
    try:
        cli(standalone_mode=False)
    except DorabatchError as error:
        click.echo(f"dorad: {error.message}", err=True)
        sys.exit(error.exit_status)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    log.configure(level=settings.log_level, as_json=settings.log_format == "json")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with lock_state_dir(settings.state_dir):
        daemon = Daemon(compose(settings))
        daemon.start()
        try:
            daemon.run_until(stop)
        finally:
            log.event("stopping")
            daemon.stop()


def lock_state_dir(state_dir: Path) -> TextIO:
    """Hold the state directory; ConfigError when another dorad does."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        handle = (state_dir / "dorad.lock").open("w")
    except OSError as error:
        raise ConfigError(f"state_dir = {state_dir}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise ConfigError(
            f"state_dir = {state_dir}: another dorad uses it; stop it first"
        ) from error
    return handle


def compose(settings: Settings, clock: Clock | None = None) -> Services:
    """Open the database and put the parts together; the writer runs after this."""
    engine = open_engine(settings.database_url)
    require_current(engine, settings.database_url)
    clock = clock or SystemClock()
    epoch, cluster_id = take_over(engine, settings.zone, clock.now())
    board = Board(
        ended_max=settings.limits.ended_kept_in_memory,
        demand_of=demand_of,
        claim_of=claim_of,
    )
    policy = SitePolicy(settings.zone, settings.policy)
    people = DeclaredUsers(settings.credits)
    desk = CreditBook(settings.zone, settings.credits, people)
    desk.chain_of = lambda user: (user, *policy.accounts_of(user))
    usage = UsageBook(settings.zone, policy, board, lambda: desk.prices)
    history = RunHistory()
    with transaction(engine) as tx:
        policy.load(tx.connection, clock.now())
    with engine.connect() as connection:
        ended = settings.limits.ended_kept_in_memory
        board.apply(store.load_ended(connection, settings.zone, ended))
        live = list(store.load_live(connection, settings.zone))
        board.apply(live)
        usage.load(connection)
        history.load(connection, settings.zone)
        people.load(connection)
        held = [c for node in board.nodes_in_use() for c in board.on_node(node)]
        desk.load(connection, held, clock.now())
    usage.apply([*(one for mine in desk.meters.values() for one in mine), *live])
    asks = Asks(demand_of=demand_of, seconds_max=seconds_max)
    outbox, mail_wanted, fleet = Outbox(settings.mail), threading.Event(), Fleet()
    writer = Writer(
        engine,
        on_commit=_listener((policy, board, usage, history, people, desk), mail_wanted),
        guard=lambda tx: refuse_when_overtaken(tx, settings.zone, epoch),
        before_commit=Notifier(outbox),
    )
    writer.start()
    return Services(
        settings=settings,
        engine=engine,
        writer=writer,
        board=board,
        fleet=fleet,
        clock=clock,
        steps=Steps(_crash_step()),
        people=people,
        credits=desk,
        billing=Billing(desk, fleet, asks),
        cluster_id=cluster_id,
        epoch=epoch,
        open_driver=lambda node: open_driver(settings, node),
        outbox=outbox,
        mail_wanted=mail_wanted,
        policy=policy,
        usage=usage,
        history=history,
        claims=ClaimBook(policy, history),
        held_claims=ClaimBook(policy, history),
    )


class _Memory(Protocol):
    """What is kept in memory, equal to the database after each commit."""

    def apply(self, changes: Iterable[object]) -> None:
        """Take over what a commit changed."""


def _listener(
    memories: Iterable[_Memory], mail_wanted: threading.Event
) -> Callable[[list[object]], None]:
    # In order: new use is never seen without the policy that it was counted by.
    def take_over_changes(changes: list[object]) -> None:
        for memory in memories:
            memory.apply(changes)
        if any(isinstance(change, Mail) for change in changes):
            mail_wanted.set()

    return take_over_changes


# Locked on PostgreSQL: a takeover waits for the transaction that checked before it.


def open_driver(settings: Settings, node: DeclaredNode) -> NodeDriver:
    """The connection to a node, made at its first use."""
    address = NodeAddress(
        name=node.name,
        host=node.host,
        port=node.port,
        user=node.user,
        key_file=str(settings.ssh.key_file),
        fingerprint=node.fingerprint or "",
        docker_socket=node.docker_socket,
    )
    timeouts = SshTimeouts(
        connect_seconds=settings.ssh.connect_seconds_max,
        answer_seconds=settings.ssh.answer_seconds_max,
    )
    limits = DriverLimits(
        channels=settings.node.launches_at_once + 2,
        pull_seconds=settings.node.pull_seconds_max,
    )
    return open_node(address, timeouts=timeouts, limits=limits, on_call=_outside_tx)


def _outside_tx(_number: int, operation: str) -> None:
    invariant(not is_in_transaction(), f"{operation} called inside a transaction")


def _crash_step() -> Step | None:
    name = os.environ.get(CRASH_VARIABLE)
    return Step(name) if name else None
