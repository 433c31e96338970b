"""The share tree as rows and sentences: who was promised what, and who has used what.

Reads the present use; changes nothing and orders nobody by itself.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

import numpy as np

from dorabatch.daemon.state.usage_book import Standings, UsageBook
from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.errors import NotFound
from dorabatch.fairshare.turn.account_tree import (
    NO_PARENT,
    SHARES_OF_PARENT,
    AccountTree,
    seat_name,
    share_fractions,
)
from dorabatch.fairshare.turn.ranking import FairTree, fair_tree, level_fair_share
from dorabatch.fairshare.turn.usage import whole_usage
from dorabatch.queue.board import Board

_HOUR = 3600.0 * 1000.0
"""Thousandths of GPU-seconds in a GPU-hour."""

TREE_COLUMNS = (
    "name", "kind", "shares", "promised", "used", "part", "ratio", "factor",
    "running", "waiting",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The tree at one moment, with what its rows are made from."""

    standings: Standings
    fair: FairTree
    promised: dict[str, Fraction]
    ratio: dict[str, Fraction | None]
    total: np.ndarray
    gpus: dict[str, tuple[int, int]]

    @property
    def tree(self) -> AccountTree:
        """The tree itself."""
        return self.standings.tree

    @property
    def everything(self) -> float:
        """Use of all together."""
        return float(self.total[self.tree.depth == 0].sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareTreeView:
    """The share tree of one zone, with its present use."""

    usage: UsageBook
    board: Board

    def show(self, now: datetime) -> Shown:
        """The tree as it stands."""
        standings = self.usage.standings(now)
        whole = whole_usage(standings.usage)
        return Shown(
            standings=standings,
            fair=fair_tree(standings.tree, whole),
            promised=share_fractions(standings.tree),
            ratio=level_fair_share(standings.tree, whole),
            total=standings.tree.totals(standings.usage.own),
            gpus=_gpus(self.board),
        )

    def known_users(self, now: datetime) -> Sequence[str]:
        """Users with workloads, use or a row of their own."""
        return sorted(self.usage.standings(now).node)


def tree_rows(shown: Shown, name: str = "") -> list[dict[str, Any]]:
    """One row an account or user, depth first; below one of them when it is named."""
    tree = shown.tree
    children: dict[int, list[int]] = {}
    for node in range(len(tree)):
        children.setdefault(int(tree.parent[node]), []).append(node)
    start = [_node(shown, name)] if name else children.get(NO_PARENT, [])
    found: list[dict[str, Any]] = []
    waiting = list(reversed(start))
    base = int(tree.depth[start[0]]) if start else 0
    while waiting:
        node = waiting.pop()
        found.append(_row(shown, node, int(tree.depth[node]) - base))
        waiting += reversed(children.get(node, []))
    return found


def compare(shown: Shown, first: str, second: str) -> str:
    """In a sentence: the first place in the tree where two differ, and who is ahead."""
    one, other = _path(shown, first), _path(shown, second)
    if one[-1] == other[-1]:
        return f"{first} and {second} are the same"
    tied: list[str] = []
    for mine, theirs in zip(one, other, strict=False):
        if mine == theirs:
            continue
        order = _level_order(shown, mine, theirs)
        here = f"{_said(shown, mine)} against {_said(shown, theirs)}"
        if order != 0:
            ahead = first if order > 0 else second
            where = _where(shown, mine)
            ties = "".join(f"{tie}: a tie; " for tie in tied)
            return f"{ties}{where}: {here}: {ahead} is ahead"
        tied.append(f"{_where(shown, mine)}: {here}")
    if tied:
        return f"{'; '.join(tied)}: they tie, and their turn goes by the other terms"
    inner, outer = (first, second) if len(one) > len(other) else (second, first)
    return f"{inner} is below {outer}: nothing to compare"


def _level_order(shown: Shown, mine: int, theirs: int) -> int:
    """Above 0 when `mine` has used less of its share than `theirs`; 0: a tie."""
    keys = []
    for node in (mine, theirs):
        ratio = shown.ratio[shown.tree.names[node]]
        keys.append((1, Fraction(0)) if ratio is None else (0, ratio))
    return (keys[0] > keys[1]) - (keys[0] < keys[1])


def _said(shown: Shown, node: int) -> str:
    tree, name = shown.tree, shown.tree.names[node]
    kind = "" if tree.is_user[node] else "account "
    return (
        f"{kind}{name} ({_percent(_level_share(shown, node))} of the shares, "
        f"{_percent(_level_use(shown, node))} of the use)"
    )


def _where(shown: Shown, node: int) -> str:
    parent = int(shown.tree.above[node])
    if parent == NO_PARENT:
        return "at the top"
    return f"in account {shown.tree.names[parent]}"


def _level_share(shown: Shown, node: int) -> float:
    tree = shown.tree
    level = np.flatnonzero(tree.above == tree.above[node])
    total = int(np.maximum(tree.shares[level], 0).sum())
    own = int(tree.shares[node])
    if own == SHARES_OF_PARENT:
        return 1.0
    return own / total if total else 0.0


def _level_use(shown: Shown, node: int) -> float:
    tree = shown.tree
    above = int(tree.above[node])
    total = shown.everything if above == NO_PARENT else float(shown.total[above])
    return float(shown.total[node]) / total if total else 0.0


def _path(shown: Shown, name: str) -> list[int]:
    node = _node(shown, name)
    path = []
    while node != NO_PARENT:
        path.append(node)
        node = int(shown.tree.above[node])
    return path[::-1]


def _node(shown: Shown, name: str) -> int:
    """A user's or account's node; raises NotFound with what exists."""
    tree = shown.tree
    if name in tree.index:
        return tree.index[name]
    accounts = [one for one in tree.names if not tree.is_user[tree.index[one]]]
    seat = seat_name(name, accounts)
    if seat in tree.index:
        return tree.index[seat]
    known = ", ".join(sorted(tree.names)[:12]) or "nobody yet"
    raise NotFound(
        f"{name!r} is no account of the share tree and no user with workloads or use "
        f"(known: {known})"
    )


def _row(shown: Shown, node: int, depth: int) -> dict[str, Any]:
    tree, name = shown.tree, shown.tree.names[node]
    is_user = bool(tree.is_user[node])
    running, waiting = _below(shown, node)
    ratio = shown.ratio[name]
    return {
        "name": name,
        "kind": "user" if is_user else "account",
        "parent": _parent_name(tree, node),
        "depth": depth,
        "shares": int(tree.shares[node]),
        "promised": float(shown.promised[name]),
        "used_weighted": float(shown.total[node]) / _HOUR,
        "part_of_use": float(shown.total[node]) / (shown.everything or 1.0),
        "level_share": _level_share(shown, node),
        "level_use": _level_use(shown, node),
        "share_by_use": None if ratio is None else float(ratio),
        "factor": float(shown.fair.factor[node]) if is_user else None,
        "running_gpus": running,
        "waiting_gpus": waiting,
    }


def _parent_name(tree: AccountTree, node: int) -> str | None:
    parent = int(tree.parent[node])
    return None if parent == NO_PARENT else tree.names[parent]


def _below(shown: Shown, node: int) -> tuple[int, int]:
    """(running, waiting) GPUs of a user, or of all users below an account."""
    name = shown.tree.names[node]
    running = waiting = 0
    for user, seat in shown.standings.node.items():
        if seat == node or name in shown.tree.ancestors(shown.tree.names[seat]):
            more = shown.gpus.get(user, (0, 0))
            running, waiting = running + more[0], waiting + more[1]
    return running, waiting


def _gpus(board: Board) -> dict[str, tuple[int, int]]:
    """(running, waiting) GPUs of each user who has any."""
    running: Counter[str] = Counter()
    for node in board.nodes_in_use():
        for container in board.on_node(node):
            if container.hold is not None:
                workload = board.workloads[container.workload_id]
                running[workload.submitter.user] += len(container.hold.gpus)
    pending = board.pending.arrays()
    asked = np.bincount(
        pending.claim, weights=pending.gpu_count, minlength=len(pending.claims)
    )
    waiting: Counter[str] = Counter()
    for claim, count in zip(pending.claims, asked.tolist(), strict=True):
        waiting[claim.user] += int(count)
    return {user: (running[user], waiting[user]) for user in {*running, *waiting}}


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _ratio_text(row: Row) -> str:
    ratio = row["share_by_use"]
    return "-" if ratio is None else f"{ratio:.3f}"


TREE_CELLS: dict[str, tuple[str, Cell]] = {
    "name": ("NAME", lambda row: "  " * row["depth"] + row["name"]),
    "kind": ("KIND", lambda row: row["kind"]),
    "shares": (
        "SHARES",
        lambda row: (
            "parent" if row["shares"] == SHARES_OF_PARENT else f"{row['shares']}"
        ),
    ),
    "promised": ("PROMISED", lambda row: _percent(row["promised"])),
    "used": ("USED(WEIGHTED)", lambda row: f"{row['used_weighted']:.1f}"),
    "part": ("OF_USE", lambda row: _percent(row["part_of_use"])),
    "ratio": ("SHARE/USE", _ratio_text),
    "factor": (
        "FACTOR",
        lambda row: "-" if row["factor"] is None else f"{row['factor']:.4f}",
    ),
    "running": ("RUNS(GPU)", lambda row: str(row["running_gpus"])),
    "waiting": ("WAITS(GPU)", lambda row: str(row["waiting_gpus"])),
}
