"""Names and labels of containers, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorabatch.errors import Refused
from dorabatch.node.identity import (
    RunIdentity,
    container_name,
    identity_labels,
    parse_identity,
)

ONE = RunIdentity(cluster_id="c-1", workload_id=12, replica=0, attempt=3, zone="z")


def test_name() -> None:
    assert container_name("c-1", 12, 0, 3) == "dora-c-1-12-0-3" == ONE.name


@pytest.mark.parametrize("cluster_id", ["", "-a", "A", "a b", "a" * 33, "a/b", "a\n"])
def test_bad_cluster_id(cluster_id: str) -> None:
    with pytest.raises(Refused, match="cluster id"):
        container_name(cluster_id, 1, 1, 1)


@given(
    cluster_id=st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True),
    numbers=st.lists(st.integers(0, 10**17), min_size=4, max_size=4),
    zone=st.from_regex(r"[A-Za-z0-9._-]{0,20}", fullmatch=True),
)
def test_labels_are_read_back(cluster_id: str, numbers: list[int], zone: str) -> None:
    identity = RunIdentity(
        cluster_id=cluster_id,
        workload_id=numbers[0],
        replica=numbers[1],
        attempt=numbers[2],
        epoch=numbers[3],
        zone=zone,
    )
    assert parse_identity(identity_labels(identity)) == identity


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("dorabatch.cluster", ""),
        ("dorabatch.cluster", "A B"),
        ("dorabatch.workload", None),
        ("dorabatch.workload", "-1"),
        ("dorabatch.workload", "1e3"),
        ("dorabatch.replica", "x"),
        ("dorabatch.attempt", "٣"),
        ("dorabatch.epoch", "9" * 30),
        ("dorabatch.zone", "a/b"),
        ("dorabatch.workspace", "a\nb"),
    ],
)
def test_damaged_labels_are_nobodys(label: str, value: str | None) -> None:
    labels: dict[str, str] = identity_labels(ONE)
    if value is None:
        del labels[label]
    else:
        labels[label] = value
    assert parse_identity(labels) is None


def test_foreign_labels_are_nobodys() -> None:
    assert parse_identity({}) is None
    assert parse_identity({"com.docker.compose.project": "x"}) is None


def test_odd_zone_is_refused() -> None:
    with pytest.raises(Refused, match="label"):
        identity_labels(
            RunIdentity(cluster_id="c", workload_id=1, replica=0, attempt=0, zone="a/b")
        )


@pytest.mark.parametrize(
    "login",
    [
        "CORP\\anna",
        "anna@corp.example.com",
        "Anna",
        "svc$",
        "müller",
        "a b",
        "a" * 128,
    ],
)
def test_a_home_is_called_as_its_login(login: str) -> None:
    one = RunIdentity(
        cluster_id="c", workload_id=1, replica=1, attempt=1, workspace=login
    )
    assert parse_identity(identity_labels(one)) == one


@pytest.mark.parametrize("login", ["a\nb", "a/b", "\udcff", "a" * 129, "a\0"])
def test_what_cannot_be_a_label_is_refused(login: str) -> None:
    one = RunIdentity(
        cluster_id="c", workload_id=1, replica=1, attempt=1, workspace=login
    )
    with pytest.raises(Refused, match="label"):
        identity_labels(one)
