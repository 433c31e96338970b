"""Which kinds exist, in the order in which a file's documents are applied.

Decides which words may follow `kind:`, and what to answer for those that are shown
by the system but never applied. It never reads a document.
"""

from collections.abc import Mapping
from typing import get_args

from dorabatch.resources.cluster import Node, Storage, Volume, Zone
from dorabatch.resources.credits import Resourcecredit, Usercredit
from dorabatch.resources.document import Document
from dorabatch.resources.names import quoted, show
from dorabatch.resources.nearest import did_you_mean
from dorabatch.resources.people import Role, User, Workspace
from dorabatch.resources.workload import WorkloadDocument

KINDS: dict[str, type[Document]] = {
    get_args(model.model_fields["kind"].annotation)[0]: model
    for model in (
        Zone,
        Workspace,
        Role,
        User,
        Storage,
        Volume,
        Node,
        Resourcecredit,
        Usercredit,
        WorkloadDocument,
    )
}
_NEVER_APPLIED = {
    "Container": "containers are made from a Workload; apply the Workload instead",
    "CPU": "CPUs are found on the nodes; apply a Node instead",
    "GPU": "GPUs are found on the nodes; apply a Node instead",
    "Project": "projects are not kept here; use a Workspace instead",
}


def find_kind(document: Mapping[str, object]) -> type[Document]:
    """The model of a document's kind, or ValueError with the valid kinds."""
    valid = f"valid kinds, capitals as shown: {', '.join(KINDS)}"
    if "kind" not in document:
        raise ValueError(f"is missing; {valid}")
    word = document["kind"]
    if not isinstance(word, str):
        raise ValueError(f"must be the name of a kind, not {show(word)}; {valid}")
    if word in _NEVER_APPLIED:
        raise ValueError(f"{word} cannot be applied: {_NEVER_APPLIED[word]}")
    if word not in KINDS:
        raise ValueError(
            f"{quoted(word)} is no kind{did_you_mean(word, KINDS)}; {valid}"
        )
    return KINDS[word]
