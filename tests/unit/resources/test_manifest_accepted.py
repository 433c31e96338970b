"""Accepted documents load to the intended structure, the concept page's included."""

from functools import reduce
from pathlib import Path

import orjson
import pytest
import yaml

from dorabatch.errors import ManifestError
from dorabatch.resources.kinds import KINDS
from dorabatch.resources.manifest import parse_json_document, parse_manifest
from dorabatch.resources.workload import canonical_json, load_spec

CASES = Path(__file__).parents[2] / "cases" / "manifest"
EXAMPLES = Path(__file__).parents[3] / "etc" / "examples"
CONCEPT = CASES / "concept"
BASE = (CASES / "base.yaml").read_text()
ACCEPTED = yaml.safe_load((CASES / "accepted.yaml").read_text())
GOLDEN = orjson.loads((CASES / "concept.json").read_bytes())


def edited(case):
    text = BASE
    for old, new in case["edit"].items():
        assert text.count(old) == 1, f"{old!r} must stand once in base.yaml"
        text = text.replace(old, new)
    return text


@pytest.mark.mission("M36")
@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case["name"])
def test_accepted(case):
    spec = parse_manifest(edited(case)).documents[0].spec
    for name, expected in case["gives"].items():
        value = reduce(getattr, name.split("."), spec)
        value = list(value) if isinstance(value, tuple) else value
        assert value == expected, name
    assert load_spec(canonical_json(spec)) == spec


def concept_text(name):
    return (CONCEPT / f"{name}.yaml").read_text()


@pytest.mark.mission("M1")
def test_the_page_has_eleven_documents():
    files = {path.stem for path in CONCEPT.glob("*.yaml")}
    assert files == GOLDEN.keys()
    assert len(files) == 11


@pytest.mark.mission("M1", "M3")
@pytest.mark.parametrize("name", GOLDEN)
def test_concept_document(name):
    (document,) = parse_manifest(concept_text(name)).documents
    dumped = document.model_dump(by_alias=True, exclude_none=True, exclude_unset=True)
    assert orjson.loads(orjson.dumps(dumped)) == GOLDEN[name]
    assert parse_json_document(GOLDEN[name]) == document


@pytest.mark.mission("M1")
@pytest.mark.parametrize("name", ["workload-minimal", "workload-complete", "node"])
def test_the_pages_tabs_are_still_there(name):
    assert "\t" in concept_text(name)


@pytest.mark.mission("M15")
def test_examples_are_the_pages_workloads():
    for kind in ("minimal", "complete"):
        example = (EXAMPLES / f"concept-{kind}.yaml").read_text()
        assert example == concept_text(f"workload-{kind}")


def test_tab_warning_names_the_first_line():
    warnings = parse_manifest(concept_text("workload-complete")).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith("line 5 holds a TAB")


def test_tabs_inside_quotes_stay():
    text = BASE.replace("/bin/bash", "\"printf 'a\tb'\"")
    manifest = parse_manifest(text)
    assert manifest.documents[0].spec.argv == ("printf", "a\tb")
    assert manifest.warnings == ()


@pytest.mark.mission("M2")
def test_documents_apply_in_dependency_order():
    texts = [concept_text(name) for name in sorted(GOLDEN)]
    manifest = parse_manifest("\n---\n".join(texts))
    kinds = [document.kind for document in manifest.documents]
    assert kinds == sorted(kinds, key=list(KINDS).index)
    assert len(kinds) == 11
    volumes = [d for d in manifest.documents if d.kind == "Volume"]
    assert [v.spec.local_path for v in volumes] == [None, "/my/very/special/path"]
    assert any("Volume 'home' stands twice" in text for text in manifest.warnings)


def test_lines_follow_their_documents():
    workspace = "apiVersion: v1\nkind: Workspace\nmetadata: {name: a}\n"
    manifest = parse_manifest(f"{BASE}---\n{workspace}")
    assert [d.kind for d in manifest.documents] == ["Workspace", "Workload"]
    assert manifest.lines == (12, 1)


def test_https_endpoint_is_accepted_with_a_warning():
    manifest = parse_manifest(concept_text("node"))
    spec = manifest.documents[0].spec
    assert (spec.ssh_host, spec.ssh_port, spec.ssh_user) == ("10.10.10.2", 22, None)
    assert "connects by SSH to port 22 of 10.10.10.2" in manifest.warnings[0]


@pytest.mark.parametrize(
    ("endpoint", "host", "port", "user"),
    [
        ("ssh://n1", "n1", 22, None),
        ("ssh://bob@n1.site:2222", "n1.site", 2222, "bob"),
        ("ssh://[fd00::1]:22", "fd00::1", 22, None),
        ("https://n1:3001", "n1", 22, None),
    ],
)
def test_node_endpoints(endpoint, host, port, user):
    text = (
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n"
        f"spec: {{endpoint: '{endpoint}'}}"
    )
    spec = parse_manifest(text).documents[0].spec
    assert (spec.ssh_host, spec.ssh_port, spec.ssh_user) == (host, port, user)


@pytest.mark.parametrize(
    ("allow", "cpu", "gpu"),
    [
        ("", True, True),
        ("  allow: []\n", False, False),
        ("  allow: [GPUWorkload]\n", False, True),
    ],
)
def test_node_allow(allow, cpu, gpu):
    text = (
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n"
        f"spec:\n  endpoint: ssh://n1\n{allow}"
    )
    spec = parse_manifest(text).documents[0].spec
    assert (spec.allows_cpu, spec.allows_gpu) == (cpu, gpu)
    assert spec.scheduling_disabled is False


def test_price_is_exact():
    document = parse_json_document(
        {
            "apiVersion": "v1",
            "kind": "Resourcecredit",
            "metadata": {"name": "T4"},
            "spec": {"credit": {"per": {"hour": 0.1}}},
        }
    )
    assert document.microcredits_per_hour == 100_000
    assert document.product_name == "T4"
    assert document.price_unit is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "a document must be a mapping"),
        ({"apiVersion": "v1", "kind": "Pod"}, "no kind"),
        ({"a": {1, 2}}, "a set is not JSON"),
        ([[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]], "nested deeper than 20"),
        ([0] * 50_001, "more than 50000 values"),
    ],
)
def test_json_refused(value, says):
    with pytest.raises(ManifestError, match=says):
        parse_json_document(value)


def test_size_is_checked_before_parsing():
    with pytest.raises(ManifestError, match="has 100000000 bytes; allowed are 1048576"):
        parse_manifest("[" * 100_000_000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 500_000, "nested deeper"),
        ("- " * 500_000, "nested deeper"),
        ("---\n" * 200_000, "more than 1000 documents"),
        ("- 1\n" * 200_000, "more than 50000 values"),
        ("\t" * 200_000, "after TABs became spaces"),
        ("a: '\ud800'", "not UTF-8"),
    ],
)
def test_limits(text, says):
    with pytest.raises(ManifestError, match=says):
        parse_manifest(text)


def test_a_bomb_of_aliases_is_refused_at_its_first_alias():
    levels = ["a0: &a0 [x, x]"]
    levels += [f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]" for i in range(1, 10)]
    with pytest.raises(ManifestError, match="aliases") as caught:
        parse_manifest("\n".join(levels))
    assert caught.value.line == 2


def test_several_problems_are_told_at_once():
    text = BASE.replace("ubuntu", "-x").replace("count: 1", "count: 0")
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text.replace("cmd", "comand"))
    assert caught.value.line == 7
    assert "also line 8: spec.image.image" in caught.value.problem
    assert "also line 10: spec.config.comand" in caught.value.problem


def test_many_problems_are_counted():
    fields = "".join(f"    zz{i}: 1\n" for i in range(9))
    with pytest.raises(ManifestError, match="and 4 more"):
        parse_manifest(BASE + fields)


@pytest.mark.parametrize(
    ("section", "value", "says"),
    [
        ("config", {"cmd": ["x"] * 10_001}, "has 10001 words; allowed are 10000"),
        ("config", {"env": [f"A{i}=" for i in range(1001)]}, "has 1001 variables"),
        ("selectors", {"node": {"name": ["n"] * 257}}, "lists 257; allowed are 256"),
        ("volumes", [{"name": "a", "target": "/a"}] * 101, "allowed are 100"),
    ],
)
def test_lists_have_an_end(section, value, says):
    document = orjson.loads(orjson.dumps(GOLDEN["workload-minimal"]))
    document["spec"][section] = value
    with pytest.raises(ManifestError, match=says):
        parse_json_document(document)


def test_socket_path_has_the_kernels_limit():
    spec = {"endpoint": "ssh://n1", "dockerSocket": "/" + "s" * 107}
    document = GOLDEN["node"] | {"spec": spec}
    with pytest.raises(ManifestError, match="a socket's path has up to 107"):
        parse_json_document(document)
    spec["dockerSocket"] = "/" + "s" * 106
    assert parse_json_document(document).spec.docker_socket == spec["dockerSocket"]
