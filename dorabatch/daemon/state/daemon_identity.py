"""Which daemon this is: its zone, its cluster and the epoch it began.

A value that never changes while a daemon runs; a later daemon has a higher epoch.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonIdentity:
    """One daemon; its containers carry all three in their names and labels."""

    zone: str
    cluster_id: str
    epoch: int
