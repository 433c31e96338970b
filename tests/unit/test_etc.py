"""The files under etc/: what is documented there is what the code does."""

from pathlib import Path

import yaml

from dorabatch.config import Settings, read_settings
from dorabatch.fairshare.turn.settings import DEFAULT_TEXTS, flat_texts
from dorabatch.resources.manifest import parse_manifest

ETC = Path(__file__).resolve().parents[2] / "etc"


def test_the_documented_settings_are_the_defaults() -> None:
    assert read_settings(ETC / "dorabatch.yaml", {}) == Settings()


def test_every_setting_is_documented() -> None:
    text = (ETC / "dorabatch.yaml").read_text()
    for name, field in Settings.model_fields.items():
        assert f"{name}:" in text
        for inner in getattr(field.annotation, "model_fields", {}):
            assert f"  {inner}:" in text


def test_the_examples_can_be_applied() -> None:
    kinds = {"resourcecredit.yaml": "Resourcecredit", "user.yaml": "User"}
    for path in sorted((ETC / "examples").glob("*.yaml")):
        documents = parse_manifest(path.read_text(), path=path.name).documents
        expected = kinds.get(path.name, "Workload")
        assert [one.kind for one in documents] == [expected]


def test_the_documented_policy_is_the_default() -> None:
    text = (ETC / "dorabatch.yaml").read_text()
    block = text.split("# The defaults are:\n")[1].split("policy: {}")[0]
    shown = yaml.safe_load("\n".join(line[4:] for line in block.splitlines()))
    assert flat_texts(shown) == DEFAULT_TEXTS
