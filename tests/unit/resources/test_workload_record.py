"""Digest and canonical text of a spec: stable where they must be."""

import pytest
from pydantic import ValidationError

from dorabatch.resources.cluster import StorageSpec, VolumeSpec, volume_path
from dorabatch.resources.manifest import parse_json_document, parse_manifest
from dorabatch.resources.people import Grant, RoleSpec
from dorabatch.resources.workload import canonical_json, load_spec, spec_digest

BASE = {
    "apiVersion": "v1",
    "kind": "Workload",
    "metadata": {"name": "a"},
    "spec": {
        "driver": "Docker",
        "selectors": {"gpu": {"count": 1, "product_name": "T4"}},
        "image": {"image": "ubuntu"},
        "config": {"cmd": "sleep 60", "env": {"A": "1", "B": "2"}},
    },
}


def spec_with(**changes):
    document = BASE | {"spec": BASE["spec"] | changes}
    return parse_json_document(document).spec


SAME = [
    {"replica": {"count": 3}},
    {"config": {"env": {"B": "2", "A": "1"}, "cmd": ["sleep", "60"]}},
    {"config": {"env": ["B=2", "A=1"], "cmd": "sleep   '60'"}},
    {"network": {"mode": "bridge"}},
    {"image": {"pullPolicy": "IfNotPresent", "image": "ubuntu"}},
    {"selectors": {"gpu": {"product_name": ["T4"], "count": 1}}},
    {"volumes": [], "notify": {}},
]
OTHER = [
    {"image": {"image": "debian"}},
    {"image": {"image": "ubuntu", "pullPolicy": "Always"}},
    {"selectors": {"gpu": {"count": 2, "product_name": "T4"}}},
    {"selectors": {"gpu": {"count": 1}}},
    {"selectors": {"gpu": {"count": 1, "product_name": "T4", "share": "0.5"}}},
    {"selectors": {"gpu": {"count": 1, "product_name": "T4"}, "cpu": {"count": 1}}},
    {"config": {"cmd": "sleep 61", "env": {"A": "1", "B": "2"}}},
    {"config": {"cmd": "sleep 60", "env": {"A": "1", "B": "3"}}},
    {"config": {"cmd": "sleep 60", "env": {"A": "1"}}},
    {"volumes": [{"name": "home", "target": "/home"}]},
    {"network": {"mode": "none"}},
    {"notify": {"byEmail": True}},
]


@pytest.mark.parametrize("changes", SAME)
def test_same_container_same_digest(changes):
    assert spec_digest(spec_with(**changes)) == spec_digest(spec_with())


@pytest.mark.parametrize("changes", OTHER)
def test_other_container_other_digest(changes):
    assert spec_digest(spec_with(**changes)) != spec_digest(spec_with())


def test_other_digests_are_all_different():
    digests = {spec_digest(spec_with(**changes)) for changes in OTHER}
    assert len(digests) == len(OTHER)


def test_digest_is_the_same_in_every_release():
    """A stored digest must not change: that would restart every workload."""
    assert spec_digest(spec_with()) == (
        "17c6db281e77b2444b69359069cc8d97124fa22f960f1d8c47e1a2cd83bd9b48"
    )


def test_canonical_json_keeps_what_the_digest_leaves_out():
    text = canonical_json(spec_with(replica={"count": 3}))
    assert '"replica":{"count":3}' in text
    assert '"restartPolicy":"Never"' in text
    assert load_spec(text).replicas == 3


def test_specs_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        spec_with().driver = "Podman"


def test_workspace_and_zone():
    text = (
        "apiVersion: v1\nkind: Volume\nmetadata: {name: v, zone: z, group: w}\n"
        "spec: {storage: s}"
    )
    volume = parse_manifest(text).documents[0]
    assert (volume.zone, volume.workspace, volume.read_only) == ("z", "w", False)
    text = "apiVersion: v1\nkind: Workspace\nmetadata: {name: w}"
    workspace = parse_manifest(text).documents[0]
    assert (workspace.zone, workspace.workspace) == (None, None)


@pytest.mark.mission("M47", "M48")
def test_volume_path():
    storage = StorageSpec.model_validate(
        {"endpoint": "h", "mountpath": "/srv/", "kind": "NFS"}
    )
    volume = VolumeSpec.model_validate({"storage": "s"})
    assert volume_path(storage, volume, "ana", "home") == "/srv/ana/home"
    special = VolumeSpec.model_validate({"storage": "s", "localPath": "/my/path"})
    assert volume_path(storage, special, "ana", "home") == "/my/path"


@pytest.mark.parametrize(
    ("permission", "kind", "verb", "expected"),
    [
        ({"Workload": ["Get"]}, "Workload", "Get", True),
        ({"Workload": ["Get"]}, "Workload", "Apply", False),
        ({"Workload": ["Get"]}, "Volume", "Get", False),
        ({"All": ["Get"]}, "Volume", "Get", True),
        ({"Storage": ["All"]}, "Storage", "Delete", True),
        ({"Storage": ["All"]}, "Node", "Delete", False),
        ({"All": ["All"]}, "Node", "Delete", True),
        ({}, "Node", "Get", False),
    ],
)
def test_role_permits(permission, kind, verb, expected):
    role = RoleSpec.model_validate({"permission": permission})
    assert role.permits(kind, verb) is expected


@pytest.mark.mission("M57")
@pytest.mark.parametrize(
    "place",
    [{}, {"workspace": "ana", "account": "lab1"}],
    ids=["nowhere", "in two places"],
)
def test_a_grant_counts_in_one_place(place):
    grant = {"kind": "All", "zone": "All", "role": "r", **place}
    with pytest.raises(ValidationError, match="say where the role counts"):
        Grant.model_validate(grant)
