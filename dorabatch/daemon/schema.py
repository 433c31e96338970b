"""The database's schema: bring it to a revision, or refuse to start with another.

Runs alembic; knows no table itself.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, inspect

from dorabatch.db import for_writing, open_engine
from dorabatch.errors import ConfigError

_SCRIPTS = Path(__file__).parent / "migrations"


def migrate(url: str, to: str = "head") -> str:
    """Go up or down to a revision; the revision after that ("base" for none)."""
    engine = open_engine(url)
    config = _config(url)
    head = ScriptDirectory.from_config(config)
    try:
        with for_writing(engine).begin() as connection:
            config.attributes["connection"] = connection
            known = [r.revision for r in head.walk_revisions()]
            present = MigrationContext.configure(connection).get_current_revision()
            if _is_down(known, present, to):
                command.downgrade(config, to)
            else:
                command.upgrade(config, to)
            after = MigrationContext.configure(connection).get_current_revision()
    except CommandError as error:
        raise ConfigError(f"migrate --to {to!r}: {error}") from error
    finally:
        engine.dispose()
    return after or "base"


def require_current(engine: Engine, url: str) -> None:
    """Set up an empty database; refuse one of another revision."""
    head = ScriptDirectory.from_config(_config(url)).get_current_head()
    with engine.connect() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
        is_empty = not inspect(connection).get_table_names()
    if present == head:
        return
    if is_empty:
        migrate(url)
        return
    raise ConfigError(
        f"database is at revision {present}, this dorad needs {head}; back it up and "
        "run: dorad migrate"
    )


def _is_down(newest_first: list[str], present: str | None, to: str) -> bool:
    if to == "base":
        return True
    if to == "head" or present is None:
        return False
    if to not in newest_first or present not in newest_first:
        return to.startswith("-")
    return newest_first.index(to) > newest_first.index(present)


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["url"] = url
    return config
