"""Values for tests: records, holds, nodes and documents with sensible contents.

Makes frozen values only; stores nothing and talks to nobody.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dorabatch.config import CreditSettings
from dorabatch.daemon.state.charging import Asks, Billing
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import DeclaredNode, NodeState, NodeView
from dorabatch.daemon.state.spec_units import demand_of, seconds_max
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.node.facts import GpuFacts, NodeFacts
from dorabatch.placer.arrays.types import SHARE
from dorabatch.queue.demand import Demand, Restriction
from dorabatch.queue.records import (
    Container,
    ContainerId,
    Hold,
    NewWorkload,
    Submitter,
    Workload,
    WorkloadId,
)
from dorabatch.queue.states import State
from dorabatch.resources.submission import workload_from_options
from dorabatch.resources.workload import WorkloadDocument, canonical_json, spec_digest

START = datetime(2026, 1, 5, 12, 0, 0, 123456, tzinfo=UTC)
ZONE = "dc-rov-01"
V100 = "Tesla V100-SXM2-16GB"
RTX = "Quadro RTX 6000"
ALICE = Submitter(user="alice", uid=2001, gid=2001, groups=(2001, 3000))
BOB = Submitter(user="bob", uid=2002, gid=2002)


def later(seconds: float) -> datetime:
    """So many seconds after START."""
    return START + timedelta(seconds=seconds)


def document(**options: Any) -> WorkloadDocument:
    """A workload document; one V100 unless the options say otherwise."""
    given: dict[str, Any] = {"image": "alpine:3", "cmd": ["true"], **options}
    if "gpus" not in given and "cpus" not in given:
        given["gpus"] = "1"
    return workload_from_options(given, default_name="unnamed")


def new_workload(name: str, **changes: Any) -> NewWorkload:
    """An admitted submission of alice's; `options` go into its spec."""
    spec = document(**changes.pop("options", {})).spec
    count = changes.get("replicas", 1)
    spec = spec.model_copy(
        update={"replica": spec.replica.model_copy(update={"count": count})}
    )
    values: dict[str, Any] = {
        "zone": ZONE,
        "workspace": "alice",
        "name": name,
        "submitter": ALICE,
        "spec_json": canonical_json(spec),
        "spec_digest": spec_digest(spec),
        "replicas": 1,
        "submission_key": None,
        "submitted_at": START,
    }
    return NewWorkload(**{**values, **changes})


def workload(workload_id: int = 1, **changes: Any) -> Workload:
    """A live workload of alice's."""
    new = new_workload(changes.pop("name", f"w{workload_id}"))
    values = {name: getattr(new, name) for name in NewWorkload.__slots__}
    made = Workload(workload_id=WorkloadId(workload_id), version=1, **values)
    return replace(made, **changes)


def container(container_id: int = 1, **changes: Any) -> Container:
    """A queued container."""
    made = Container(
        container_id=ContainerId(container_id),
        workload_id=WorkloadId(1),
        replica=1,
        state=State.QUEUED,
        rev=1,
        version=1,
        attempt=0,
        queued_at=START,
    )
    return replace(made, **changes)


def hold(**changes: Any) -> Hold:
    """One V100 of n1 with two pinned cores and 1 GiB."""
    made = Hold(
        node="n1",
        gpus=("GPU-0",),
        gpu_models=(V100,),
        cores=(0, 1),
        cpu_milli=2000,
        memory_mib=1024,
        ports=(),
        boot_id="boot-1",
    )
    return replace(made, **changes)


def demand(**changes: Any) -> Demand:
    """One GPU of any model with the node's share of the rest."""
    made = Demand(
        gpu_count=1,
        gpu_milli=1000,
        gpu_models=None,
        cpu_milli=SHARE,
        cpu_exclusive=False,
        memory_mib=SHARE,
        affinity=0,
        restriction=Restriction(),
    )
    return replace(made, **changes)


def facts(**changes: Any) -> NodeFacts:
    """Four V100, eight cores, 16 GiB; no GPU of another host is among them."""
    made = NodeFacts(
        hostname="n1",
        boot_id="boot-1",
        cores=tuple(range(8)),
        cpu_model="EPYC",
        memory_mib=16384,
        gpus=gpus(4),
        probe="pynvml",
    )
    made = replace(made, **changes)
    if made.hostname == "n1":
        return made
    own = [replace(g, uuid=f"{g.uuid}-{made.hostname}") for g in made.gpus]
    return replace(made, gpus=tuple(own))


def gpus(count: int, model: str = V100, prefix: str = "GPU") -> tuple[GpuFacts, ...]:
    """So many GPUs of a model, numbered."""
    return tuple(
        GpuFacts(uuid=f"{prefix}-{n}", model=model, minor=n, memory_mib=16384)
        for n in range(count)
    )


def node_settings(name: str = "n1", **changes: Any) -> DeclaredNode:
    """A node that takes everything."""
    made = DeclaredNode(
        name=name,
        host="192.0.2.1",
        port=22,
        user="root",
        fingerprint="SHA256:" + "A" * 43,
        docker_socket="/var/run/docker.sock",
        allows_gpu=True,
        allows_cpu=True,
        scheduling_disabled=False,
    )
    return replace(made, **changes)


def view(name: str = "n1", **changes: Any) -> NodeView:
    """A ready node."""
    values: dict[str, Any] = {
        "settings": node_settings(name),
        "state": NodeState.READY,
        "reason": "",
        "facts": facts(hostname=name),
    }
    return NodeView(**{**values, **changes})


def no_billing() -> Billing:
    """Billing where nothing has a price and nobody is limited."""
    settings = CreditSettings()
    asks = Asks(demand_of=demand_of, seconds_max=seconds_max)
    return Billing(CreditBook(ZONE, settings, DeclaredUsers(settings)), Fleet(), asks)
