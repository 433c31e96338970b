"""The placer in plain loops: slow, obvious, and never used outside tests.

Answers first-fit placement, refusal reasons and violations of a plan's promises.
"""

from dorabatch.placer.arrays.types import (
    SHARE,
    USED_UP,
    ClusterArrays,
    Placement,
    Plan,
    RequestArrays,
)


class LoopBooks:
    """What is free, in lists and dicts."""

    def __init__(self, cluster: ClusterArrays) -> None:
        self.cluster = cluster
        self.cpu = cluster.cpu_free_milli.tolist()
        self.memory = cluster.memory_free_mib.tolist()
        self.free = cluster.gpus_free.tolist()
        self.rest = cluster.gpu_rest_milli.tolist()

    def needs(self, requests: RequestArrays, row: int, node: int) -> tuple[int, int]:
        """CPUs and memory of a request on a node."""
        total_cpu = int(self.cluster.cpu_total_milli[node])
        total_memory = int(self.cluster.memory_total_mib[node])
        gpus = max(sum(self.cluster.gpus_total[node].tolist()), 1)
        parts = int(requests.gpu_count[row]) * int(requests.gpu_milli[row])
        cpu, memory = int(requests.cpu_milli[row]), int(requests.memory_mib[row])
        if cpu == SHARE:
            cpu = total_cpu // gpus * parts // 1000
        if memory == SHARE and requests.gpu_count[row]:
            memory = total_memory // gpus * parts // 1000
        elif memory == SHARE:
            memory = total_memory * cpu // max(total_cpu, 1)
        return cpu, memory

    def reason(self, requests: RequestArrays, row: int, node: int) -> str:
        """The first reason the node refuses, or ""."""
        cluster = self.cluster
        with_gpus = requests.gpu_count[row] > 0
        if not cluster.ready[node]:
            return "NodeNotReady"
        if not cluster.enabled[node]:
            return "SchedulingDisabled"
        if not (cluster.allows_gpu if with_gpus else cluster.allows_cpu)[node]:
            return "NotAllowed"
        mask = int(requests.mask[row])
        if mask and not cluster.masks[mask - 1].allowed[node]:
            return cluster.masks[mask - 1].reason
        cpu, memory = self.needs(requests, row, node)
        if with_gpus:
            models = [m for m in range(len(cluster.models)) if requests.accepts[row, m]]
            if not any(cluster.gpus_total[node, m] for m in models):
                return "GpuModel"
            if not self.gpus_fit(requests, row, node, models):
                return "Gpus"
        if self.cpu[node] < cpu:
            return "Cpus"
        return "Memory" if self.memory[node] < memory else ""

    def gpus_fit(
        self, requests: RequestArrays, row: int, node: int, models: list[int]
    ) -> bool:
        """Whether accepted GPUs are enough."""
        milli = int(requests.gpu_milli[row])
        if milli == 1000:
            return sum(self.free[node][m] for m in models) >= requests.gpu_count[row]
        return any(
            self.free[node][m] >= 1 or any(r >= milli for r in self.rest[node][m])
            for m in models
        )

    def take(self, requests: RequestArrays, row: int, placement: Placement) -> None:
        """Book a placement; amounts may go below zero, which `broken` shows."""
        node = placement.node
        cpu, memory = self.needs(requests, row, node)
        self.cpu[node] -= cpu
        self.memory[node] -= memory
        if placement.slot < 0:
            for model, count in enumerate(placement.gpus):
                self.free[node][model] -= count
            return
        model = placement.gpus.index(1)
        slots = self.rest[node][model]
        while len(slots) <= placement.slot:
            slots.append(0)
        rest = slots[placement.slot]
        if rest == 0:
            self.free[node][model] -= 1
            rest = 1000
        elif rest == USED_UP:
            rest = 0
        left = rest - int(requests.gpu_milli[row])
        slots[placement.slot] = left or USED_UP

    def broken(self) -> bool:
        """Whether anything is below zero."""
        below = min(self.cpu) < 0 or min(self.memory) < 0
        gpus = any(count < 0 for row in self.free for count in row)
        rests = any(r < USED_UP for n in self.rest for m in n for r in m)
        return below or gpus or rests


def first_fit(requests: RequestArrays, cluster: ClusterArrays) -> dict[int, int]:
    """key -> node for whole-GPU and CPU requests, first node that fits."""
    books, found = LoopBooks(cluster), {}
    for row in range(len(requests)):
        nodes = list(range(len(cluster)))
        for node in nodes:
            if books.reason(requests, row, node):
                continue
            gpus = _pick(requests, row, books.free[node])
            if gpus is None:
                continue
            key = int(requests.key[row])
            books.take(requests, row, Placement(key=key, node=node, gpus=gpus))
            found[key] = node
            break
    return found


def _pick(requests: RequestArrays, row: int, free: list[int]) -> tuple[int, ...] | None:
    """All GPUs of the first model with enough; None if that takes several models."""
    count = int(requests.gpu_count[row])
    if count == 0:
        return tuple(0 for _ in free)
    for model, here in enumerate(free):
        if requests.accepts[row, model] and here >= count:
            return tuple(count if m == model else 0 for m in range(len(free)))
    return None


def violations(
    requests: RequestArrays, cluster: ClusterArrays, plan: Plan
) -> list[str]:
    """Every promise the plan breaks, in words."""
    row_of = {int(key): row for row, key in enumerate(requests.key.tolist())}
    found = _bad_placements(requests, cluster, plan, row_of)
    placed = {p.key for p in plan.placements}
    told = placed | set(plan.waiting) | set(plan.left)
    if told != set(row_of) or placed & set(plan.waiting):
        found.append("a request is neither placed nor explained, or both")
    gangs: dict[int, set[bool]] = {}
    for row, key in enumerate(requests.key.tolist()):
        if requests.gang[row]:
            gangs.setdefault(int(requests.group[row]), set()).add(key in placed)
    found += [
        f"gang {g} is placed in part" for g, seen in gangs.items() if len(seen) > 1
    ]
    return found + _out_of_order(requests, cluster, plan, row_of)


def _bad_placements(
    requests: RequestArrays,
    cluster: ClusterArrays,
    plan: Plan,
    row_of: dict[int, int],
) -> list[str]:
    books, found = LoopBooks(cluster), []
    for placement in plan.placements:
        row = row_of[placement.key]
        refused = LoopBooks(cluster).reason(requests, row, placement.node)
        if refused:
            found.append(f"{placement.key}: node refuses it: {refused}")
        if sum(placement.gpus) != requests.gpu_count[row]:
            found.append(f"{placement.key}: wrong number of GPUs")
        for model, count in enumerate(placement.gpus):
            if count and not requests.accepts[row, model]:
                found.append(f"{placement.key}: model not accepted")
        books.take(requests, row, placement)
        if books.broken():
            found.append(f"{placement.key}: node over capacity")
    return found


def _out_of_order(
    requests: RequestArrays,
    cluster: ClusterArrays,
    plan: Plan,
    row_of: dict[int, int],
) -> list[str]:
    """Single requests that wait though what ranks before them leaves room."""
    placements = {row_of[p.key]: p for p in plan.placements}
    waiting = {row_of[key] for key in plan.waiting}
    books, found = LoopBooks(cluster), []
    ahead = _gang_rank(requests)
    for row in sorted(range(len(requests)), key=lambda r: (ahead[r], r)):
        if row in placements:
            books.take(requests, row, placements[row])
        elif row in waiting and not requests.gang[row]:
            reasons = [books.reason(requests, row, n) for n in range(len(cluster))]
            if "" in reasons:
                found.append(f"{requests.key[row]}: waits behind lower rank")
    return found


def _gang_rank(requests: RequestArrays) -> list[int]:
    """A gang ranks where its first row ranks."""
    first: dict[int, int] = {}
    ranks = []
    for row in range(len(requests)):
        if not requests.gang[row]:
            ranks.append(row)
            continue
        ranks.append(first.setdefault(int(requests.group[row]), row))
    return ranks
