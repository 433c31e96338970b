"""Promises of the documents' readers for any input at all."""

import string

import orjson
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dorabatch.errors import ManifestError
from dorabatch.resources.manifest import parse_json_document, parse_manifest
from dorabatch.resources.names import check_image, check_name, check_path
from dorabatch.resources.submission import OPTIONS, workload_from_options
from dorabatch.resources.workload import (
    WorkloadDocument,
    canonical_json,
    load_spec,
    spec_digest,
)
from dorabatch.resources.yamltree import read_trees

FAST = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck)
)
PIECES = st.sampled_from(
    [
        "apiVersion: v1\n",
        "kind: Workload\n",
        "kind: Node\n",
        "metadata:\n",
        "  name: a\n",
        "spec:\n",
        "  driver: Docker\n",
        "  config: {}\n",
        "---\n",
        "\t",
        "- ",
        ": ",
        "{",
        "]",
        "&a ",
        "*a",
        "!!x ",
        "'",
        '"',
        "| \n",
        "#",
        "? ",
        "%",
        "\x00",
        "\ufeff",
        "\u2028",
        "<<: ",
    ]
)
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["All", "500m", "8Gi", "2h", "/a", "a", "Docker", "Always"]),
)
KEY = st.sampled_from(
    [
        *["apiVersion", "kind", "metadata", "spec", "name", "group", "workspace"],
        *["selectors", "gpu", "cpu", "node", "count", "product_name", "share", "image"],
        *["config", "cmd", "env", "volumes", "target", "network", "ports", "mode"],
    ]
)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(KEY, st.text(max_size=5)), inner, max_size=5),
    ),
    max_leaves=20,
)
SAFE_TEXT = st.text(string.printable, max_size=30)
WORDS = st.lists(st.text(string.printable, min_size=1, max_size=10), min_size=1)
OPTION_VALUES = {
    "gpus": st.integers(1, 8),
    "gpu_models": st.lists(st.sampled_from(["T4", "Tesla V100-SXM2-16GB"]), max_size=2),
    "cpus": st.sampled_from(["1", "4", "500m"]),
    "memory": st.sampled_from(["8Gi", "512Mi", "8G"]),
    "replicas": st.integers(0, 5),
    "affinity": st.sampled_from(["First", "Random", "Distribute", "Fill"]),
    "restart": st.sampled_from(["Never", "Always"]),
    "env": st.dictionaries(st.sampled_from("ABC"), SAFE_TEXT).map(
        lambda pairs: [f"{name}={value}" for name, value in pairs.items()]
    ),
    "time": st.sampled_from(["90s", "2h", "1d"]),
    "ports": st.sampled_from([["25000:80"], ["25000:80/udp", "30000:81"]]),
    "volumes": st.sampled_from([["a:/a"], ["w/a:/a:ro", "b:/b"]]),
    "notify": st.booleans(),
    "cmd": WORDS,
}
GOOD_OPTIONS = st.fixed_dictionaries(
    {"image": st.sampled_from(["ubuntu", "a.b:1/c:d"])}, optional=OPTION_VALUES
)


def refuses_or_returns(read, *arguments, **options):
    """What was read, or None after a ManifestError with a sentence."""
    try:
        return read(*arguments, **options)
    except ManifestError as error:
        assert error.problem
        return None


@FAST
@given(st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=25).map("".join)))
def test_any_text_is_read_or_refused(text):
    refuses_or_returns(parse_manifest, text)


@FAST
@given(JSON)
def test_any_json_is_read_or_refused(value):
    refuses_or_returns(parse_json_document, value)


@FAST
@given(JSON)
def test_any_spec_is_read_or_refused(value):
    document = {
        "apiVersion": "v1",
        "kind": "Workload",
        "metadata": {"name": "a"},
    }
    refuses_or_returns(parse_json_document, document | {"spec": value})


@FAST
@given(st.dictionaries(st.sampled_from(sorted(OPTIONS)), JSON, max_size=6))
def test_any_options_are_read_or_refused(options):
    refuses_or_returns(workload_from_options, options, default_name="a")


@FAST
@given(GOOD_OPTIONS)
def test_good_options_survive_storing(options):
    workload = workload_from_options(options, default_name="a")
    spec = workload.spec
    text = canonical_json(spec)
    assert load_spec(text) == spec
    assert canonical_json(load_spec(text)) == text
    assert spec_digest(load_spec(text)) == spec_digest(spec)
    assert spec.gpu_count >= 1 or spec.cpu_milli is not None


@FAST
@given(GOOD_OPTIONS, st.randoms())
def test_key_order_and_replicas_change_no_digest(options, random):
    workload = workload_from_options(options, default_name="a")
    fields = orjson.loads(canonical_json(workload.spec))
    fields["replica"] = {"count": 1}
    shuffled = list(fields.items())
    random.shuffle(shuffled)
    again = load_spec(orjson.dumps(dict(shuffled)).decode())
    assert spec_digest(again) == spec_digest(workload.spec)


@FAST
@given(GOOD_OPTIONS)
def test_yaml_and_json_of_a_workload_agree(options):
    workload = workload_from_options(options, default_name="a")
    document = orjson.loads(
        orjson.dumps(workload.model_dump(by_alias=True, exclude_none=True))
    )
    assert parse_json_document(document) == workload
    (read,) = parse_manifest(yaml.safe_dump(document)).documents
    assert isinstance(read, WorkloadDocument)
    assert read == workload


@FAST
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-(10**17), 10**17), SAFE_TEXT),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(SAFE_TEXT, inner, max_size=3)
        ),
        max_leaves=15,
    )
)
def test_yaml_values_read_as_written(value):
    """A JSON text is YAML too; it must come back unchanged, with its lines."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    (tree,), warnings = read_trees(text)
    assert tree.value == value
    assert warnings == ()


@FAST
@given(st.text(max_size=40))
def test_accepted_names_are_harmless(text):
    for check in (check_name, check_image, check_path):
        try:
            value = check(text)
        except ValueError:
            continue
        assert not set(value) & set(" \t\n\\'\"`$;&|<>*?!#(){}[]\0")
        assert ".." not in value.split("/")
        assert not value.startswith("-")
