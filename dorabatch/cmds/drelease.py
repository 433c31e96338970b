"""Release held workloads: they may start again.

Sends what was named. Never decides who may: the daemon does.
"""

from dorabatch.cmds.argv import Values
from dorabatch.cmds.dhold import ask_for_each, named
from dorabatch.cmds.jsontext import Json


def build(values: Values) -> dict[str, Json]:
    """The request that releases what was named."""
    return named("drelease", values)


def run(values: Values) -> int:
    """Release what was named; 1 when that failed for some."""
    return ask_for_each("drelease", "/v1/release", build(values))
