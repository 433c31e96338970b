"""Which zone and workspace a document means, and whether its user may act there.

What a document leaves out is the user's default; a default that cannot be used is
refused when it is declared and, where it is stored already, named as the default that
it is. Makes no workspace and changes none.
"""

from dataclasses import dataclass

from dorabatch.daemon.rights import Caller, Place, may, refusal
from dorabatch.daemon.state.rights_book import RightsBook
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.errors import NotAllowed, Refused
from dorabatch.resources.verbs import Verb
from dorabatch.resources.workload import WorkloadDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Homes:
    """Where documents belong in the zone that is served."""

    zone: str
    users: DeclaredUsers
    rights: RightsBook

    def place_of(self, caller: Caller, document: WorkloadDocument) -> tuple[str, str]:
        """(zone, workspace) the document means; raises Refused or NotAllowed."""
        self._check_zone(caller, document)
        if document.workspace is None:
            return self.zone, self._default_workspace(caller)
        workspace = document.workspace
        self.check(caller, workspace, Verb.APPLY, "Workload")
        if workspace != caller.user and self.rights.owner_of(workspace) is None:
            raise Refused(
                f"metadata.workspace: no workspace {workspace!r}; make it with dora "
                "apply (kind: Workspace)"
            )
        return self.zone, workspace

    def check(self, caller: Caller, workspace: str, verb: Verb, kind: str) -> None:
        """Raise NotAllowed unless the caller may do this in a workspace."""
        if may(caller, verb, kind, Place(zone=self.zone, workspace=workspace)):
            return
        raise refusal(caller, verb, kind, self._known_as(caller, workspace))

    def _known_as(self, caller: Caller, workspace: str) -> str:
        owner = self.rights.owner_of(workspace)
        if workspace == caller.user and not self.rights.has_home(workspace):
            return (
                f"workspace {workspace!r}, which {owner} made before there was a login "
                "of its name; let an admin set another spec.default.workspace of your "
                "User"
            )
        if owner is None and workspace != caller.user:
            return f"workspace {workspace!r}, which nobody has made"
        return f"workspace {workspace!r}"

    def _check_zone(self, caller: Caller, document: WorkloadDocument) -> None:
        user = caller.user
        default = self.users.default_zone(user)
        if document.zone is not None and document.zone != self.zone:
            raise Refused(
                f"metadata.zone: {document.zone!r} is not served by this daemon (it "
                f"serves {self.zone!r})"
            )
        if document.zone is None and default not in (None, self.zone):
            raise Refused(
                f"metadata.zone: none is given, and the default of user {user!r}, "
                f"{default!r}, is not served by this daemon (it serves {self.zone!r}); "
                f"name the zone, or let an admin set spec.default.zone of user {user!r}"
            )

    def _default_workspace(self, caller: Caller) -> str:
        user = caller.user
        workspace = self.users.default_workspace(user)
        owner = self.rights.owner_of(workspace)
        if workspace == user:
            self.check(caller, workspace, Verb.APPLY, "Workload")
            return workspace
        place = Place(zone=self.zone, workspace=workspace)
        if owner is not None and may(caller, Verb.APPLY, "Workload", place):
            return workspace
        known = "is not open to their roles" if owner else "does not exist"
        refusal = NotAllowed if owner else Refused
        raise refusal(
            f"metadata.workspace: none is given, and the default of user {user!r}, "
            f"{workspace!r}, {known}; name a workspace ({user!r} is always there), or "
            f"let an admin set spec.default.workspace of user {user!r}"
        )
