"""Node and task lists as arrays; reads CSV, gzipped or not, and decides nothing."""

import csv
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dorabatch.errors import Refused
from dorabatch.placer.arrays.types import (
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    IntArray,
    RequestArrays,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """Tasks in arrival order; times are None without --durations.

    Arrays are [task]; accepts is [task, model].
    """

    cpu_milli: IntArray
    memory_mib: IntArray
    gpu_count: IntArray
    gpu_milli: IntArray
    accepts: BoolArray
    submit_s: IntArray | None = None
    duration_s: IntArray | None = None

    def __len__(self) -> int:
        return len(self.cpu_milli)

    def gpu_amount(self) -> IntArray:
        """Thousandths of GPUs asked, per task."""
        return np.asarray(self.gpu_count * self.gpu_milli, dtype=np.int64)

    def requests(self, rows: IntArray) -> RequestArrays:
        """The tasks `rows` as requests; the key is the task's row."""
        none = np.zeros(len(rows), dtype=np.int64)
        return RequestArrays(
            key=rows,
            group=rows,
            gang=none.astype(bool),
            gpu_count=self.gpu_count[rows],
            gpu_milli=self.gpu_milli[rows],
            accepts=self.accepts[rows],
            cpu_milli=self.cpu_milli[rows],
            memory_mib=self.memory_mib[rows],
            affinity=none,
            mask=none,
        )


NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
TASK_COLUMNS = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec")
TIME_COLUMNS = ("submit_s", "duration_s")


def read_checked(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a file that has these columns; raises Refused with one sentence."""
    try:
        rows = read_rows(path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"{path}: cannot be read ({error}); name a CSV file") from error
    if not rows:
        raise Refused(f"{path}: has no rows; it needs the columns {_list(columns)}")
    missing = [name for name in columns if name not in rows[0]]
    if missing:
        raise Refused(f"{path}: lacks {_list(missing)}; it needs {_list(columns)}")
    for line, row in enumerate(rows, start=2):
        problem = _problem(row, columns)
        if problem:
            raise Refused(f"{path} line {line}: {problem}")
    return rows


TEXT_COLUMNS = ("sn", "model", "gpu_spec")


def _problem(row: dict[str, str], columns: tuple[str, ...]) -> str:
    """What is wrong with one row; empty where nothing is."""
    if None in row:
        return "has more cells than the heading; quote what holds a comma"
    for name in columns:
        if row[name] is None:
            return f"has no {name}; a cell may be empty but not left out"
        least = 1 if name == "duration_s" else 0
        if name not in TEXT_COLUMNS and not _is_amount(row[name], least):
            seen = f"{name} is {row[name]!r}"
            return f"{seen}; it must be a whole number, {least} or more"
    if "gpu_milli" in columns and float(row["num_gpu"] or 0) == 1:
        milli = float(row["gpu_milli"] or 0)
        if not 1 <= milli <= WHOLE_GPU_MILLI:
            most = WHOLE_GPU_MILLI
            return f"gpu_milli is {milli:g} with one GPU; it must be 1 to {most}"
    return ""


def _is_amount(text: str, least: int) -> bool:
    try:
        amount = float(text or 0)
    except ValueError:
        return False
    return least <= amount < 2**53 and amount.is_integer()


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    if path.suffix == ".gz":
        with gzip.open(path, "rt", newline="") as packed:
            return list(csv.DictReader(packed))
    with path.open(newline="") as plain:
        return list(csv.DictReader(plain))


def read_nodes(
    path: Path, *, seed: int | None, copies: int = 1, most: int | None = None
) -> ClusterArrays:
    """Empty nodes; `seed` puts them in a random order, None keeps the file's.

    The list is repeated `copies` times; `most` keeps that many of the order.
    """
    rows = read_checked(path, NODE_COLUMNS) * copies
    order = np.arange(len(rows))
    if seed is not None:
        order = np.random.default_rng(seed).permutation(len(rows))
    rows = [rows[i] for i in order[:most].tolist()]
    models = tuple(sorted({row["model"] for row in rows if row["model"]}))
    gpus = np.zeros((len(rows), len(models)), dtype=np.int64)
    for at, row in enumerate(rows):
        if row["model"]:
            gpus[at, models.index(row["model"])] = int(float(row["gpu"] or 0))
    cpu = np.array([int(float(row["cpu_milli"] or 0)) for row in rows])
    memory = np.array([int(float(row["memory_mib"] or 0)) for row in rows])
    well = np.ones(len(rows), dtype=bool)
    slots = (*gpus.shape, int(gpus.max(initial=0)))
    return ClusterArrays(
        names=tuple(f"{row['sn']}-{at}" for at, row in enumerate(rows)),
        models=models,
        ready=well,
        enabled=well,
        allows_gpu=well,
        allows_cpu=well,
        gpus_total=gpus,
        gpus_free=gpus.copy(),
        cpu_total_milli=cpu,
        cpu_free_milli=cpu.copy(),
        memory_total_mib=memory,
        memory_free_mib=memory.copy(),
        gpu_rest_milli=np.zeros(slots, dtype=np.int64),
    )


def tasks_from_rows(rows: list[dict[str, str]], models: tuple[str, ...]) -> Tasks:
    """Rows of a task list; an empty gpu_spec accepts every model."""

    def column(name: str) -> IntArray:
        return np.array([int(float(row[name] or 0)) for row in rows], dtype=np.int64)

    count = column("num_gpu")
    milli = np.where(count == 1, column("gpu_milli"), WHOLE_GPU_MILLI)
    specs = {row["gpu_spec"] for row in rows}
    accepted = {
        spec: [not spec or model in spec.split("|") for model in models]
        for spec in specs
    }
    timed = bool(rows) and "duration_s" in rows[0]
    return Tasks(
        cpu_milli=column("cpu_milli"),
        memory_mib=column("memory_mib"),
        gpu_count=count,
        gpu_milli=milli,
        accepts=np.array([accepted[row["gpu_spec"]] for row in rows], dtype=bool),
        submit_s=column("submit_s") if timed else None,
        duration_s=column("duration_s") if timed else None,
    )


def without_shares(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows that ask for whole GPUs or none; raises Refused where there is none."""
    found = [
        row
        for row in rows
        if float(row["num_gpu"] or 0) != 1
        or float(row["gpu_milli"] or 0) == WHOLE_GPU_MILLI
    ]
    if not found:
        raise Refused("every row asks for a share of a GPU; give --share fractional")
    return found
