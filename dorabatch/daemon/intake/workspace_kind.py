"""Workspaces: made below one's own, listed with every login's home, removed when empty.

A home is the workspace with a login's name: it is there without being made, and nobody
else can make one of that name. Moves and copies nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from dorabatch.daemon.intake.kind_table import (
    Applied,
    Belonging,
    KindEntry,
    Named,
    Scope,
)
from dorabatch.daemon.intake.logins import is_login
from dorabatch.daemon.intake.stored_kinds import (
    STORED_CELLS,
    STORED_COLUMNS,
    StoredKinds,
    stored_row,
)
from dorabatch.daemon.rights import Caller, may_everywhere
from dorabatch.daemon.state.object_store import get_object, list_objects
from dorabatch.daemon.state.rights_book import WORKSPACE, RightsBook
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.daemon.views.describe import describe_object
from dorabatch.daemon.views.table_layout import Row
from dorabatch.db import Tx
from dorabatch.errors import ConflictError, NotAllowed, NotFound
from dorabatch.queue.board import Board
from dorabatch.queue.spans import known_users
from dorabatch.resources.document import Document
from dorabatch.resources.verbs import Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceKind:
    """The workspaces of a site."""

    zone: str
    stored: StoredKinds
    rights: RightsBook
    users: DeclaredUsers
    board: Board
    is_login: Callable[[str], bool] = field(default=is_login)

    def entry(self) -> KindEntry:
        """Its entry in the table of kinds."""
        return KindEntry(
            name=WORKSPACE,
            words=("workspaces", "ws", "group", "groups"),
            scope=Scope.EVERYWHERE,
            cells=STORED_CELLS,
            columns=STORED_COLUMNS,
            rows=self.rows,
            find=self.find,
            belongs=_itself,
            text=describe_object,
            target=self._target,
            apply=self.apply,
            delete=self.delete,
        )

    def rows(self) -> list[Row]:
        """Every workspace that was made, and the home of everybody who is known."""
        with self.stored.engine.connect() as connection:
            made = list_objects(connection, WORKSPACE)
            people = {*self.users.names(), *known_users(connection, self.zone)}
        homes = people - {one.name for one in made}
        rows = [stored_row(one) for one in made] + [_home(name) for name in homes]
        return sorted(rows, key=lambda row: str(row["name"]))

    def find(self, _caller: Caller, named: Named) -> Row:
        """One workspace; a login's home is there before anything is in it."""
        with self.stored.engine.connect() as connection:
            found = get_object(connection, WORKSPACE, "", "", named.name)
        if found is not None:
            return stored_row(found)
        if self._is_home(named.name):
            return _home(named.name)
        raise NotFound(f"no workspace {named.name!r}; see dora get workspaces")

    def apply(self, caller: Caller, document: Document, _agreed: str | None) -> Applied:
        """Make one; it belongs to whoever makes it, a home to its login."""
        name = document.name

        def write(tx: Tx) -> str:
            found = get_object(tx.connection, WORKSPACE, "", "", name)
            owner = found.owner if found else self._owner(caller, name, tx.connection)
            wanted = self.stored.wanted(document, "{}", owner)
            return self.stored.save_in(tx, wanted, actor=caller.user)

        result = self.stored.writer.do(write)
        return Applied(kind=WORKSPACE, name=name, result=result, message="")

    def delete(self, caller: Caller, named: Named) -> tuple[str, str]:
        """Remove one in which nothing is live."""
        name = named.name
        live = [n for w, n in list(self.board.live_names) if w == name]
        if live:
            raise ConflictError(
                f"workspace {name!r} holds {len(live)} live workloads (such as "
                f"{live[0]!r}); cancel them first: dcancel --workspace {name} --all"
            )
        if not self.stored.forget(WORKSPACE, name, caller):
            raise ConflictError(
                f"workspace {name!r} is the home of the login {name!r} and always "
                "there; nobody made it, so there is nothing to remove"
            )
        return "deleted", f"workspace {name} removed"

    def _owner(self, caller: Caller, name: str, connection: Connection) -> str:
        """Whose a new workspace is; NotAllowed for a login's home that is another's."""
        is_home = self._is_home(name) or name in known_users(connection, self.zone)
        if not is_home or name == caller.user:
            return caller.user
        if may_everywhere(caller, Verb.APPLY, WORKSPACE, self.zone):
            return name
        raise NotAllowed(
            f"workspace {name!r} is the home of the login {name!r} and belongs to it "
            "alone; choose another name"
        )

    def _is_home(self, name: str) -> bool:
        return self.users.spec(name) is not None or self.is_login(name)

    def _target(self, document: Document, home: str) -> Belonging:
        """A new workspace is made in the nearest one above it."""
        name = document.name
        if name == home or self.rights.owner_of(name) is not None:
            return Belonging(workspace=name)
        above = name
        while "." in above:
            above = above.rpartition(".")[0]
            if above == home or self.rights.owner_of(above) is not None:
                return Belonging(workspace=above)
        return Belonging(workspace=name)


def _itself(row: Row) -> Belonging:
    return Belonging(workspace=row["name"], owner=row["owner"])


def _home(login: str) -> Row:
    said = {"spec": "{}", "created_at": None, "changed_at": None}
    return {"kind": WORKSPACE, "name": login, "owner": login, **said}
