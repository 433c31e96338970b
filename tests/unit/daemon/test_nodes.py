"""Declared nodes: changes of two admins at once are both kept."""

import threading

import pytest

from dorabatch.daemon.intake.stored_nodes import StoredNodes
from dorabatch.errors import NotFound
from dorabatch.resources.cluster import NodeSpec
from tests.unit.daemon.conftest import SECONDS, Parts, caller

ADMIN = caller(is_admin=True)
KEY, OTHER_KEY = ("SHA256:" + letter * 43 for letter in "AB")


@pytest.fixture
def nodes(parts: Parts) -> Parts:
    """A daemon with one node that nothing answers for."""
    spec = NodeSpec(endpoint="ssh://127.0.0.1:1", hostKey=KEY)
    parts.nodes.save(ADMIN, "n1", spec)
    return parts


def test_two_changes_at_once_are_both_kept(
    nodes: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, others = StoredNodes.save, []

    def rekey() -> None:
        nodes.nodes.change(ADMIN, "n1", host_key=OTHER_KEY)

    def slow_at_first(stored: StoredNodes, actor: str, name: str, spec: NodeSpec):
        if not others:
            others.append(threading.Thread(target=rekey))
            others[0].start()
            # Time enough for it to come first, if it could.
            others[0].join(0.5)
        return save(stored, actor, name, spec)

    monkeypatch.setattr(StoredNodes, "save", slow_at_first)
    nodes.nodes.change(ADMIN, "n1", scheduling_disabled=True)
    others[0].join(SECONDS)
    spec, pinned = nodes.nodes.pinned_key("n1")
    assert spec.scheduling_disabled
    assert pinned == OTHER_KEY
    view = nodes.books.fleet.get("n1")
    assert view is not None
    assert (view.settings.scheduling_disabled, view.settings.fingerprint) == (
        True, OTHER_KEY,
    )  # fmt: skip


def test_a_node_that_was_removed_is_unknown(nodes: Parts) -> None:
    nodes.nodes.remove(ADMIN, "n1")
    assert nodes.books.fleet.get("n1") is None
    assert nodes.keepers.get("n1") is None
    with pytest.raises(NotFound, match=r"no node 'n1' \(known: none\)"):
        nodes.nodes.change(ADMIN, "n1", scheduling_disabled=True)
