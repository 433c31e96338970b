"""What the history keeps of a change: of policy, of the share tree, of a document.

Values only; `share_store` keeps them, and nothing here decides.
"""

from dataclasses import dataclass

DOCUMENT = "document "
"""What the keys of documents begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of the history: who changed what, from what to what, and why.

    `key` is a setting, `account.NAME` or `user.NAME` of the share tree, or a document
    (see `document_key`), whose old and new spec are JSON, empty where there is none.
    """

    at: int
    actor: str
    key: str
    old: str
    new: str
    reason: str = ""


def document_key(kind: str, name: str) -> str:
    """How the history names a document, such as a Node or a User."""
    return f"{DOCUMENT}{kind}/{name}"


def read_document_key(key: str) -> tuple[str, str] | None:
    """(kind, name) of a key that `document_key` made, else None."""
    if not key.startswith(DOCUMENT):
        return None
    kind, _, name = key.removeprefix(DOCUMENT).partition("/")
    return kind, name
