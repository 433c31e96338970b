"""May this ever run here? The checks of a submission before it is stored.

Pure: takes the spec, the nodes as arrays and the site's bounds; raises Refused with a
sentence, or returns warnings. Never asks what is free now.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from dorabatch.config import Settings
from dorabatch.errors import NotAllowed, Refused
from dorabatch.fairshare.turn.settings import PolicySettings
from dorabatch.placer.arrays.types import ClusterArrays, Mask, RequestArrays
from dorabatch.placer.explain.impossible import can_ever_run
from dorabatch.placer.explain.words import either, listed
from dorabatch.queue.demand import Demand, Restriction
from dorabatch.resources.workload import WHOLE_GPU_MILLI, Priority, WorkloadSpec


def check_site_bounds(spec: WorkloadSpec, settings: Settings) -> list[str]:
    """Raise Refused for what this site never allows; warnings for what it ignores."""
    limit = settings.limits.replicas_max
    if spec.replicas > limit:
        raise Refused(f"spec.replica.count: {spec.replicas} (allowed here: {limit})")
    if spec.network.mode == "host" and not settings.containers.host_network:
        raise Refused(
            "spec.network.mode: 'host' is not allowed here (allowed: none, bridge); "
            "an admin may set containers.host_network"
        )
    is_share = spec.gpu_milli != WHOLE_GPU_MILLI
    if is_share and not settings.containers.gpu_shares:
        raise Refused(
            "spec.selectors.gpu.share: this zone hands out whole GPUs only; leave "
            "share out; an admin may set containers.gpu_shares"
        )
    warnings = []
    if is_share:
        warnings.append(
            f"gpu.share {spec.gpu_milli / WHOLE_GPU_MILLI:g}: shares of a GPU are not "
            "isolated; keep to your part of its memory (DORA_GPU_SHARE), nothing "
            "enforces it"
        )
    if spec.volumes:
        names = ", ".join(volume.name for volume in spec.volumes)
        warnings.append(
            f"volumes ({names}): no shared storage serves this zone; each node keeps "
            "its own Docker volume of that name"
        )
    if spec.notify.by_email and not settings.mail.host:
        warnings.append("notify.byEmail: this zone sends no mail")
    return warnings


def check_turn(turn: Priority, policy: PolicySettings, *, is_admin: bool) -> None:
    """Raise NotAllowed or Refused for a nice or QOS that this caller may not have."""
    if turn.nice < 0 and not is_admin:
        raise NotAllowed(
            f"spec.priority.nice: {turn.nice}: only an admin may put a workload before "
            "others; write 0 or more to let others go first"
        )
    if abs(turn.nice) > policy.nice_max:
        raise Refused(
            f"spec.priority.nice: {turn.nice} (allowed here: up to {policy.nice_max}; "
            "see dshare settings)"
        )
    if turn.qos is not None and turn.qos not in policy.qos:
        known = ", ".join(sorted(policy.qos)) or "none"
        raise Refused(
            f"spec.priority.qos: there is no QOS {turn.qos!r} (known: {known}); an "
            f"admin adds one with dshare set qos.{turn.qos}=1"
        )


def check_nodes_exist(restriction: Restriction, known: Collection[str]) -> None:
    """Raise Refused when a named node is none of the zone's."""
    for node in restriction.nodes:
        if node not in known:
            names = listed(sorted(known)) or "none"
            raise Refused(
                f"spec.selectors.node.name: no node {node!r} (known: {names}); see "
                "dnode list"
            )


def check_models_exist(demand: Demand, known: Collection[str]) -> None:
    """Raise Refused when no node has any of the GPU models asked for.

    With no GPU known at all (a new zone) nothing is refused: the workload waits.
    """
    if demand.gpu_models is None or not known:
        return
    if not set(demand.gpu_models).intersection(known):
        wanted = either([repr(model) for model in demand.gpu_models])
        names = listed(sorted(known))
        raise Refused(
            f"spec.selectors.gpu.product_name: no node has GPU model {wanted} "
            f"(known: {names}); see dnode list"
        )


def check_cpus_exist(restriction: Restriction, known: Collection[str]) -> None:
    """Raise Refused when no node has any of the CPU models asked for.

    With no node known at all (a new zone) nothing is refused: the workload waits.
    """
    if not restriction.cpu_models or not known:
        return
    if not set(restriction.cpu_models).intersection(known):
        wanted = either([repr(model) for model in restriction.cpu_models])
        raise Refused(
            f"spec.selectors.cpu.product_name: no node has CPU model {wanted} "
            f"(known: {listed(sorted(known))}); see dnode show"
        )


def check_can_ever_run(
    demand: Demand,
    cluster: ClusterArrays,
    accepts: Sequence[bool],
    mask: Mask | None = None,
) -> None:
    """Raise Refused when even an empty cluster could not run it.

    accepts[model] over the cluster's models; `mask` says where it may go at all, None:
    anywhere. With no node known nothing is refused.
    """
    if not len(cluster):
        return
    if mask is not None:
        cluster = replace(cluster, masks=(mask,))
    request = RequestArrays(
        key=np.zeros(1, dtype=np.int64),
        group=np.zeros(1, dtype=np.int64),
        gang=np.zeros(1, dtype=bool),
        gpu_count=np.array([demand.gpu_count], dtype=np.int64),
        gpu_milli=np.array([demand.gpu_milli], dtype=np.int64),
        accepts=np.array([accepts], dtype=bool),
        cpu_milli=np.array([demand.cpu_milli], dtype=np.int64),
        memory_mib=np.array([demand.memory_mib], dtype=np.int64),
        affinity=np.array([demand.affinity], dtype=np.int64),
        mask=np.full(1, len(cluster.masks), dtype=np.int64),
    )
    verdict = can_ever_run(request, cluster)[0]
    if verdict is not None:
        raise Refused(verdict.sentence)
