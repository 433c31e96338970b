"""The specification of a test cluster is read as meant, and refused otherwise.

Pure: never makes a cluster; tests/integration/test_cluster.py does.
"""

from pathlib import Path

import pytest

from tests.cluster.spec import ClusterError, Instance, NodeSpec, check_specs


def test_a_spec_may_have_blanks_in_its_models() -> None:
    spec = NodeSpec.parse("n1=Tesla V100-SXM2-16GB:4, Quadro RTX 6000:2")
    assert spec.name == "n1"
    assert spec.gpus == (("Tesla V100-SXM2-16GB", 4), ("Quadro RTX 6000", 2))


@pytest.mark.parametrize("text", ["n3=", "n3"])
def test_a_spec_may_have_no_gpus(text: str) -> None:
    assert NodeSpec.parse(text) == NodeSpec(name="n3")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("N1=", "name"),
        ("=V100:1", "name"),
        ("a-name-that-is-far-too-long=", "name"),
        ("n1=V100", "MODEL:COUNT"),
        ("n1=:4", "MODEL:COUNT"),
        ("n1=V100:many", "MODEL:COUNT"),
        ("n1=V100:-1", "MODEL:COUNT"),
        ("n1=a\tb:1", "TAB"),
        ("n1=V100:65", "64"),
    ],
)
def test_a_bad_spec_is_refused(text: str, word: str) -> None:
    with pytest.raises(ClusterError, match=word):
        NodeSpec.parse(text)


def test_uuids_are_stable_and_distinct() -> None:
    first = NodeSpec.parse("n1=V100-SXM2-16GB:3").gpu_list()
    again = NodeSpec.parse("n1=V100-SXM2-16GB:3").gpu_list()
    other = NodeSpec.parse("n2=V100-SXM2-16GB:3").gpu_list()
    assert first == again
    assert len({gpu.uuid for gpu in first + other}) == 6
    assert {gpu.memory_mib for gpu in first} == {16384}


def test_a_cluster_that_cannot_work_is_refused() -> None:
    node = NodeSpec(name="n1")
    place = Path("/tmp/place")
    check_specs((node,), place)
    with pytest.raises(ClusterError, match="twice"):
        check_specs((node, node), place)
    with pytest.raises(ClusterError, match="0 nodes"):
        check_specs((), place)
    with pytest.raises(ClusterError, match="too long"):
        check_specs((node,), Path("/tmp") / ("x" * 100))


def test_two_instances_share_nothing() -> None:
    one, two = Instance(number=0), Instance(number=1)
    assert one.bridge != two.bridge
    assert (one.address(0), two.address(0)) == ("10.77.0.11", "10.77.1.11")
    assert len({one.link(11), Instance(number=11).link(1), one.link(1)}) == 3
    assert len(Instance(number=255).link(99)) <= 15
