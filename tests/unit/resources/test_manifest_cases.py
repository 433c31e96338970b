"""Every text that must be refused is, with its line, field and reason."""

from pathlib import Path

import pytest
import yaml

from dorabatch.errors import ManifestError
from dorabatch.resources.manifest import parse_manifest

CASES = Path(__file__).parents[2] / "cases" / "manifest"
BASE = (CASES / "base.yaml").read_text()
REFUSED = yaml.safe_load((CASES / "refused.yaml").read_text())


def text_of(case):
    if "text" in case:
        return case["text"]
    text = BASE
    for old, new in case["edit"].items():
        assert text.count(old) == 1, f"{old!r} must stand once in base.yaml"
        text = text.replace(old, new)
    return text


def test_base_is_accepted():
    assert parse_manifest(BASE).documents[0].name == "blue.red"


def test_case_names_are_unique():
    names = [case["name"] for case in REFUSED]
    assert len(set(names)) == len(names)


@pytest.mark.mission("M46", "M55")
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_refused(case):
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text_of(case), path="job.yaml")
    error = caught.value
    assert (error.line, error.field) == (case["line"], case["field"]), error
    assert case["says"] in error.problem
    assert error.path == "job.yaml"
    assert error.exit_status == 2
