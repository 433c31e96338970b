"""`dorad`: reads settings, has the parts put together, serves until it is told to end.

Only one dorad uses a state directory. Holds no rule of its own.
"""

import fcntl
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TextIO

import click

from dorabatch import log
from dorabatch.clock import Clock
from dorabatch.config import Settings, read_settings
from dorabatch.daemon.api.assembly import app_of
from dorabatch.daemon.api.server import raise_open_files
from dorabatch.daemon.assembly import compose, parts_of
from dorabatch.daemon.schema import migrate
from dorabatch.daemon.service import Daemon
from dorabatch.daemon.state.private_files import (
    keep_private,
    make_folder,
    narrow,
    state_dir_mode,
    too_wide,
)
from dorabatch.errors import ConfigError, DorabatchError

CONFIG_DEFAULT = Path("/etc/dorabatch.yaml")


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
    """Print the settings in force; warn of files that others may read."""
    click.echo(settings.model_dump_json(indent=2))
    for one in too_wide(settings):
        click.echo(f"dorad: {one.sentence}; a start of dorad narrows it", err=True)


def main() -> None:
    """The entry point: errors are one sentence and an exit status."""
    keep_private()
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


def serve(settings: Settings, clock: Clock | None = None) -> None:
    """Serve until SIGTERM or SIGINT; by the machine's clock where none is given."""
    log.configure(level=settings.log_level, as_json=settings.log_format == "json")
    stop, hung_up = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, lambda *_: hung_up.set())
    raise_open_files()
    with lock_state_dir(settings):
        narrow(settings)
        parts = parts_of(*compose(settings, clock))
        app = app_of(
            parts.books, parts.effects, parts.views, parts.intake, parts.keepers
        )
        daemon = Daemon(parts, app)
        daemon.start()
        try:
            daemon.run_until(stop, hung_up)
        finally:
            log.event("stopping")
            daemon.stop()


def lock_state_dir(settings: Settings) -> TextIO:
    """Hold the state directory; ConfigError when another dorad does."""
    state_dir = settings.state_dir
    try:
        make_folder(state_dir, state_dir_mode(settings))
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
