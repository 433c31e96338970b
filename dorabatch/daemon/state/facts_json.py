"""What is kept of a node's facts across a restart of the daemon, as JSON text.

Only what lasts: readings of the moment (use, clock offset) are left out.
"""

import json
from dataclasses import asdict, replace
from typing import Any

from dorabatch.daemon.state.node_view import lasting_gpu
from dorabatch.node.facts import GpuFacts, NodeFacts


def facts_to_json(facts: NodeFacts) -> str:
    """Lasting facts as text; equal text means nothing lasting changed."""
    lasting = replace(
        facts,
        clock_offset_seconds=0.0,
        disk_free_mib=None,
        gpus=tuple(lasting_gpu(gpu) for gpu in facts.gpus),
    )
    return json.dumps(asdict(lasting), sort_keys=True)


def facts_from_json(text: str) -> NodeFacts:
    """The facts that `facts_to_json` wrote."""
    values: dict[str, Any] = json.loads(text)
    gpus, missing = (
        tuple(
            GpuFacts(**{**gpu, "process_pids": tuple(gpu["process_pids"])})
            for gpu in values.pop(key, ())
        )
        for key in ("gpus", "missing_gpus")
    )
    cores = tuple(values.pop("cores"))
    return NodeFacts(**values, gpus=gpus, missing_gpus=missing, cores=cores)
