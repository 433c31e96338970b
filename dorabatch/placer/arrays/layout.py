"""Nodes as bins: one bin per node and GPU model, and bins alike.

A node with one model (or no GPU) is one bin; a mixed node is several that share CPUs
and memory. Sees what nodes have, not what is free; cycles have it in common.
"""

from dataclasses import dataclass

import numpy as np

from dorabatch.placer.arrays.classes import distinct_rows
from dorabatch.placer.arrays.types import BoolArray, ClusterArrays, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The bins of a cluster.

    node[bin], model[bin] (-1: the node has no GPU), primary[bin]: first of its node
    sisters               bin -> the other bins of a mixed node
    total                 [bin, (GPUs, milli-CPUs, MiB)] of an empty node
    gpu_slice             [bin] rows: milli-CPUs and MiB that belong to one GPU
    shape[bin]            bins of one model, equal totals and equal slices are of one
    first[shape]          a bin of each
    order[i], start[shape]  bins shape by shape, and where each shape begins
    """

    node: IntArray
    model: IntArray
    primary: BoolArray
    sisters: dict[int, tuple[int, ...]]
    total: IntArray
    gpu_slice: tuple[IntArray, IntArray]
    shape: IntArray
    first: IntArray
    order: IntArray
    start: IntArray


def layout_of(cluster: ClusterArrays) -> Layout:
    """Turn nodes into bins."""
    node, model, primary = _bins(cluster)
    total = _totals(cluster, node, model)
    gpu_slice = cluster.gpu_slice[0][node], cluster.gpu_slice[1][node]
    first, shape = _alike(np.column_stack([model, total, *gpu_slice]))
    order = np.argsort(shape, kind="stable")
    return Layout(
        node=node,
        model=model,
        primary=primary,
        sisters=_sisters(primary),
        total=total,
        gpu_slice=gpu_slice,
        shape=shape,
        first=first,
        order=order,
        start=np.searchsorted(shape[order], np.arange(len(first))),
    )


def _bins(cluster: ClusterArrays) -> tuple[IntArray, IntArray, BoolArray]:
    has = cluster.gpus_total > 0
    node, model = np.nonzero(has)
    bare = np.flatnonzero(~has.any(axis=1)) if has.size else np.arange(len(cluster))
    node = np.concatenate([node, bare]).astype(np.int64)
    model = np.concatenate([model, np.full(len(bare), -1)]).astype(np.int64)
    # Of one node there are either models, in order, or none.
    order = np.argsort(node, kind="stable")
    node, model = node[order], model[order]
    primary = np.ones(len(node), dtype=bool)
    primary[1:] = node[1:] != node[:-1]
    return node, model, primary


def _totals(cluster: ClusterArrays, node: IntArray, model: IntArray) -> IntArray:
    totals = np.zeros((len(node), 3), dtype=np.int64)
    owned = model >= 0
    totals[owned, 0] = cluster.gpus_total[node[owned], model[owned]]
    totals[:, 1] = cluster.cpu_total_milli[node]
    totals[:, 2] = cluster.memory_total_mib[node]
    return totals


def _sisters(primary: BoolArray) -> dict[int, tuple[int, ...]]:
    starts = np.flatnonzero(primary)
    counts = np.diff(starts, append=len(primary))
    several = counts > 1
    found: dict[int, tuple[int, ...]] = {}
    for start, count in zip(
        starts[several].tolist(), counts[several].tolist(), strict=True
    ):
        bins = range(start, start + count)
        found.update({b: tuple(o for o in bins if o != b) for b in bins})
    return found


def _alike(rows: IntArray) -> tuple[IntArray, IntArray]:
    """first[kind] and kind[row] of equal rows, kinds in ascending order."""
    first, kind = distinct_rows(list(rows.T), len(rows))
    order = np.lexsort(rows[first].T[::-1])
    return first[order], np.argsort(order)[kind]
