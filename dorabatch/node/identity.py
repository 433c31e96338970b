"""Decides a container's name and labels from the run it belongs to, and back.

Pure: never talks to a node and never guesses: damaged labels are nobody's container.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dorabatch.errors import Refused

LABEL_PREFIX = "dorabatch."
CLUSTER_LABEL = LABEL_PREFIX + "cluster"
WORKLOAD_LABEL = LABEL_PREFIX + "workload"
REPLICA_LABEL = LABEL_PREFIX + "replica"
ATTEMPT_LABEL = LABEL_PREFIX + "attempt"
EPOCH_LABEL = LABEL_PREFIX + "epoch"
ZONE_LABEL = LABEL_PREFIX + "zone"
WORKSPACE_LABEL = LABEL_PREFIX + "workspace"
GPUS_LABEL = LABEL_PREFIX + "gpus"
DIGEST_LABEL = LABEL_PREFIX + "spec-digest"

_CLUSTER_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)
_WORD_LENGTH_MAX = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """Which run of which workload a container is."""

    cluster_id: str
    workload_id: int
    replica: int
    attempt: int
    epoch: int = 0
    zone: str = ""
    workspace: str = ""

    @property
    def name(self) -> str:
        """The container's name."""
        return container_name(
            self.cluster_id, self.workload_id, self.replica, self.attempt
        )

    def is_same_run(self, other: "RunIdentity") -> bool:
        """True when both mean the same run; the epoch may differ."""
        return self.name == other.name


def container_name(
    cluster_id: str, workload_id: int, replica: int, attempt: int
) -> str:
    """Return the name that only this run's container may carry."""
    if not _CLUSTER_ID.fullmatch(cluster_id):
        raise Refused(
            f"cluster id {cluster_id!r} cannot be part of a container name; allowed "
            "are 1 to 32 small letters, digits and '-', not starting with '-'"
        )
    numbers = {"workload id": workload_id, "replica": replica, "attempt": attempt}
    for field, value in numbers.items():
        if value < 0:
            raise Refused(f"{field} is {value}; it must be 0 or more")
    return f"dora-{cluster_id}-{workload_id}-{replica}-{attempt}"


def identity_labels(identity: RunIdentity) -> dict[str, str]:
    """Return the labels from which parse_identity reads the identity back."""
    container_name(
        identity.cluster_id, identity.workload_id, identity.replica, identity.attempt
    )
    invalid = [
        word for word in (identity.zone, identity.workspace) if not is_plain(word)
    ]
    if invalid:
        raise Refused(
            f"{invalid[0]!r} cannot be a container's zone or workspace label; allowed "
            f"are up to {_WORD_LENGTH_MAX} characters that print, without '/'"
        )
    return {
        CLUSTER_LABEL: identity.cluster_id,
        WORKLOAD_LABEL: str(identity.workload_id),
        REPLICA_LABEL: str(identity.replica),
        ATTEMPT_LABEL: str(identity.attempt),
        EPOCH_LABEL: str(identity.epoch),
        ZONE_LABEL: identity.zone,
        WORKSPACE_LABEL: identity.workspace,
    }


def parse_identity(labels: Mapping[str, str]) -> RunIdentity | None:
    """Read labels back; None when a label is missing or malformed."""
    cluster_id = labels.get(CLUSTER_LABEL, "")
    zone = labels.get(ZONE_LABEL, "")
    workspace = labels.get(WORKSPACE_LABEL, "")
    numbers = [
        _count(labels.get(label))
        for label in (WORKLOAD_LABEL, REPLICA_LABEL, ATTEMPT_LABEL, EPOCH_LABEL)
    ]
    workload_id, replica, attempt, epoch = numbers
    if workload_id is None or replica is None or attempt is None or epoch is None:
        return None
    if not _CLUSTER_ID.fullmatch(cluster_id):
        return None
    if not (is_plain(zone) and is_plain(workspace)):
        return None
    return RunIdentity(
        cluster_id=cluster_id,
        workload_id=workload_id,
        replica=replica,
        attempt=attempt,
        epoch=epoch,
        zone=zone,
        workspace=workspace,
    )


def is_plain(word: str) -> bool:
    """True when the word is safe in a label and in an environment value.

    Both take any text as it is: a home is called as its login, such as `CORP\\anna`.
    """
    return len(word) <= _WORD_LENGTH_MAX and word.isprintable() and "/" not in word


def _count(text: str | None) -> int | None:
    if text is None or not _COUNT.fullmatch(text):
        return None
    return int(text)
