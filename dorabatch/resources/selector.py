"""What hardware a workload asks for: GPUs, CPUs, nodes.

Decides what a selector may say. It never looks whether a node has it.
"""

from typing import Annotated

from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from dorabatch.resources.document import Part, problem_at
from dorabatch.resources.names import check_model, check_name, show
from dorabatch.resources.quantity import (
    read_cpu_count,
    read_share_milli,
    whole_number,
    write_share_milli,
)

GPU_COUNT_MAX = 1024
CHOICES_MAX = 256


def _choices(value: object, what: str) -> tuple[object, ...] | None:
    """All -> None; one text -> itself; a list -> each once, in its order."""
    if value == "All" or value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple):
        raise ValueError(
            f"must be All, one {what} or a list of them, not {show(value)}"
        )
    if not value:
        raise ValueError(f"is an empty list; write All, or name a {what}")
    if "All" in value:
        raise ValueError(f"All stands alone; write All, or list every {what}")
    if len(value) > CHOICES_MAX:
        raise ValueError(f"lists {len(value)}; allowed are {CHOICES_MAX}")
    return tuple(value)


def read_models(value: object) -> tuple[str, ...] | None:
    """product_name: None when any model will do."""
    chosen = _choices(value, "product name")
    if chosen is None:
        return None
    return tuple(dict.fromkeys(check_model(model) for model in chosen))


def read_node_names(value: object) -> tuple[str, ...] | None:
    """node.name: None when any node will do."""
    chosen = _choices(value, "node name")
    if chosen is None:
        return None
    return tuple(dict.fromkeys(check_name(name) for name in chosen))


Models = Annotated[tuple[str, ...] | None, PlainValidator(read_models)]


class GpuSelector(Part):
    """Whole GPUs, or a share of one."""

    models: Annotated[Models, Field(alias="product_name")] = None
    count: Annotated[int, PlainValidator(whole_number(1, GPU_COUNT_MAX))]
    share_milli: Annotated[
        int | None,
        PlainValidator(lambda v: None if v is None else read_share_milli(v)),
        PlainSerializer(write_share_milli),
        Field(alias="share"),
    ] = None

    @model_validator(mode="after")
    def _share_is_of_one(self) -> "GpuSelector":
        if self.share_milli is not None and self.count != 1:
            raise problem_at(
                "share", f"a share is of one GPU; count must be 1, not {self.count}"
            )
        return self


class CpuSelector(Part):
    """Exclusive cores (a whole number) or a quota (text such as 500m)."""

    models: Annotated[Models, Field(alias="product_name")] = None
    count: Annotated[int | str, PlainValidator(read_cpu_count)]


class NodeSelector(Part):
    """The nodes a workload may run on."""

    names: Annotated[
        tuple[str, ...] | None, PlainValidator(read_node_names), Field(alias="name")
    ] = None


class Selectors(Part):
    """At least one of cpu and gpu; node narrows the choice."""

    cpu: CpuSelector | None = None
    gpu: GpuSelector | None = None
    node: NodeSelector | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> "Selectors":
        if self.cpu is None and self.gpu is None:
            raise ValueError(
                "names no hardware; give cpu or gpu, for example cpu: {count: 1}"
            )
        return self
