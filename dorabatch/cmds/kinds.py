"""The names of the kinds, as people type them.

Never knows what a kind contains: the daemon does.
"""

from dorabatch.cmds.suggest import near
from dorabatch.errors import UserError

KINDS = {
    "Workload": ("workload", "workloads", "wk"),
    "Container": ("container", "containers", "c"),
    "Node": ("node", "nodes"),
    "Zone": ("zone", "zones", "z"),
    "Workspace": ("workspace", "workspaces", "ws", "group", "groups"),
    "User": ("user", "users"),
    "Resourcecredit": ("resourcecredit", "resourcecredits", "price", "prices"),
    "Usercredit": ("usercredit", "usercredits"),
}
_BY_ALIAS = {alias: kind for kind, names in KINDS.items() for alias in names}


def kind_of(word: str) -> str:
    """The kind that a word means, in any case."""
    kind = _BY_ALIAS.get(word.lower())
    if kind is None:
        hint = near(word.lower(), _BY_ALIAS)
        raise UserError(f"no kind '{word}'{hint}; kinds: {', '.join(KINDS)}")
    return kind
