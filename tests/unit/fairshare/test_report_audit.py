"""How the audit words what became of a document."""

import pytest

from dorabatch.fairshare.report.report_audit import difference, done_to_policy
from dorabatch.fairshare.turn.changes import Change, document_key, read_document_key

USER = '{"mail":"a@x","credits":[{"zone":"z","weekly":70},{"zone":"y","weekly":1}]}'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", '{"a":1,"b":{"c":"x"}}', "made; a: 1, b.c: x"),
        ('{"a":1}', "", "removed; a: 1"),
        ("", "{}", "made"),
        ('{"a":false,"b":2}', '{"a":true,"b":2}', "a: false -> true"),
        ('{"a":1}', '{"b":null}', "a: 1 -> nothing, b: nothing -> null"),
        (USER, USER.replace("70", "90"), "credits.1.weekly: 70 -> 90"),
        (
            USER,
            USER.replace(',{"zone":"y","weekly":1}', ""),
            "credits.2.weekly: 1 -> nothing, credits.2.zone: y -> nothing",
        ),
    ],
)
def test_only_the_fields_that_differ_are_told(old, new, said):
    assert difference(old, new) == said


def test_documents_and_settings_are_told_apart():
    for kind, name in (("Node", "gpu01"), ("Volume", "lab/data")):
        assert read_document_key(document_key(kind, name)) == (kind, name)
    assert read_document_key("half_life") is None
    common = {"at": 1, "actor": "root"}
    node = document_key("Node", "n1")
    made = done_to_policy(Change(key=node, old="", new="{}", **common))
    assert (made.what, made.subject, made.detail) == ("Node", "n1", "made")
    said = done_to_policy(Change(key="user.ana", old="", new="shares=2", **common))
    assert (said.what, said.subject) == ("policy", "user.ana")
    assert said.detail == "nothing -> shares=2"
