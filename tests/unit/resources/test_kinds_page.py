"""The examples and tables of docs/kinds.md and etc/examples are true."""

import re
from pathlib import Path

import pytest

from dorabatch.resources.kinds import KINDS
from dorabatch.resources.manifest import parse_manifest
from dorabatch.resources.names import CONSTANTS
from dorabatch.resources.submission import OPTIONS, workload_from_options
from dorabatch.resources.verbs import VERBS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "kinds.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_example_is_accepted(block):
    assert parse_manifest(block).documents


@pytest.mark.mission("M8")
def test_every_kind_has_a_row_in_order():
    rows = re.findall(r"^\| `(\w+)` \| (?:everywhere|a zone)", PAGE, re.MULTILINE)
    assert rows == list(KINDS)


@pytest.mark.mission("M33")
def test_every_constant_is_named():
    assert " ".join(CONSTANTS) in " ".join(PAGE.split())


@pytest.mark.parametrize("kind", VERBS)
def test_every_verb_has_its_kind(kind):
    rows = re.findall(rf"^\|.*`{kind}`.*\| (.*) \|$", PAGE, re.MULTILINE)
    told = " ".join(rows)
    if kind != "Container":
        assert f"`{' '.join(VERBS[kind])}`" in told
    else:
        assert VERBS[kind] == (*VERBS["Workload"], "Shell", "Token")


def aliases(model):
    for name, info in model.model_fields.items():
        yield info.alias or name


def test_every_field_of_a_workload_is_named():
    spec = KINDS["Workload"].model_fields["spec"].annotation
    for section in ("image", "config", "network", "notify"):
        part = spec.model_fields[section].annotation
        for field in aliases(part):
            assert f"`{section}.{field}" in PAGE


def test_batch_example_uses_known_options():
    script = (ROOT / "etc" / "examples" / "train.sh").read_text()
    lines = re.findall(r"^#DSUB (--[a-z-]+) (.+)$", script, re.MULTILINE)
    keys = {option: key for key, option in OPTIONS.items()}
    options: dict[str, object] = {keys[option]: value for option, value in lines}
    options |= {"env": [options["env"]], "script": script, "cmd": ["world"]}
    workload = workload_from_options(options, default_name="train.sh")
    assert workload.spec.argv == ("/bin/sh", "-c", script, "train.hello", "world")
    assert workload.spec.gpu_count == 1
