"""What can be done with each kind: the verbs that roles grant and routes carry.

Decides nothing: it is the one list that documents, routes and rights share.
"""

from enum import StrEnum


class Verb(StrEnum):
    """One thing that somebody may do with an object."""

    APPLY = "Apply"
    DELETE = "Delete"
    GET = "Get"
    GET_ONE = "GetOne"
    DESCRIBE = "Describe"
    PAUSE = "Pause"
    RESUME = "Resume"
    EVENT = "Event"
    VERSION = "Version"
    LOG = "Log"
    SHELL = "Shell"
    TOKEN = "Token"
    USE = "Use"
    UPLOAD = "Upload"
    DOWNLOAD = "Download"
    LS = "Ls"
    SYNC = "Sync"
    CLONE = "Clone"
    CREDITS = "Credits"


_SEEN = (Verb.GET, Verb.GET_ONE, Verb.DESCRIBE)
_KEPT = (Verb.APPLY, Verb.DELETE, *_SEEN)
_LIVE = (Verb.PAUSE, Verb.RESUME, Verb.EVENT, Verb.VERSION, Verb.LOG)
_FILES = (Verb.USE, Verb.UPLOAD, Verb.DOWNLOAD, Verb.LS, Verb.SYNC)

VERBS: dict[str, tuple[Verb, ...]] = {
    "CPU": _SEEN,
    "Container": (*_KEPT, *_LIVE, Verb.SHELL, Verb.TOKEN),
    "GPU": _SEEN,
    "Node": _KEPT,
    "Policy": (Verb.APPLY, *_SEEN),
    "Project": _KEPT,
    "Report": (Verb.APPLY, *_SEEN),
    "Resourcecredit": _KEPT,
    "Role": _KEPT,
    "Storage": _KEPT,
    "User": (*_KEPT, Verb.CREDITS),
    "Usercredit": _KEPT,
    "Volume": (*_KEPT, *_FILES),
    "Workload": (*_KEPT, *_LIVE),
    "Workspace": (*_KEPT, Verb.CLONE),
    "Zone": _KEPT,
}
"""Kinds a role can speak of, and what can be done with each."""

ALL_VERBS = tuple(dict.fromkeys(verb for verbs in VERBS.values() for verb in verbs))

WORKSPACED = frozenset({"Container", "Volume", "Workload", "Workspace"})
"""Kinds whose objects are in a workspace; a Workspace is in itself."""

PERSONAL = frozenset({"Report", "User", "Usercredit"})
"""Kinds whose objects are somebody's: without Get one has only one's own."""
