"""Which nodes are one machine, whatever they are called and wherever they answer.

A GPU is in one machine, so two nodes with a GPU in common are one. So are two whose
boot and dockerd are the same: a copied disk has the same dockerd's name but a boot of
its own, and containers on one host share its boot but not a dockerd. Addresses, host
names, host keys and machine ids say nothing: they are copied and shared.

Written and read by the fleet alone, under its lock.
"""

from dorabatch.node.facts import NodeFacts


def machine_marks(facts: NodeFacts) -> dict[str, str]:
    """What only one machine can have -> in words."""
    marks = {gpu.uuid: f"GPU {gpu.uuid}" for gpu in facts.all_gpus}
    if facts.docker_id and facts.boot_id:
        mark = f"{facts.boot_id} {facts.docker_id}"
        marks[mark] = f"Docker {facts.docker_id} since the same boot"
    return marks


class Machines:
    """Who has which mark, first come first."""

    def __init__(self) -> None:
        self._nodes_of: dict[str, list[str]] = {}
        self._marks_of: dict[str, dict[str, str]] = {}

    def tell(self, node: str, facts: NodeFacts | None) -> None:
        """A node has these facts now; None: it is no node any more."""
        marks = machine_marks(facts) if facts else {}
        before = self._marks_of.pop(node, {})
        for mark in before.keys() - marks.keys():
            nodes = self._nodes_of[mark]
            nodes.remove(node)
            if not nodes:
                del self._nodes_of[mark]
        for mark in marks.keys() - before.keys():
            self._nodes_of.setdefault(mark, []).append(node)
        if marks:
            self._marks_of[node] = marks

    def first(self, node: str) -> tuple[str, str] | None:
        """(the node that this machine was before, what both have), or None."""
        for mark, words in self._marks_of.get(node, {}).items():
            first = self._nodes_of[mark][0]
            if first != node:
                return first, words
        return None
