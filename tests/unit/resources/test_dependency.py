"""What a workload waits for, as text: its one form, and what is refused."""

import pytest

from dorabatch.errors import ManifestError
from dorabatch.resources.dependency import parse_dependency
from tests.makers import document


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("afterok:12", "afterok:12"),
        ("afterok:012:13,afterany:train", "afterok:12:13,afterany:train"),
        ("afterok:12,afterok:13", "afterok:12:13"),
        ("after:12, afterany:ana/train.2", "after:12,afterany:ana/train.2"),
        ("afterok:12:12", "afterok:12"),
        ("afterok:12?afternotok:13", "afterok:12?afternotok:13"),
        ("afterok:12:13?after:a", "afterok:12?afterok:13?after:a"),
        ("afterok:12?afterok:12", "afterok:12"),
    ],
)
def test_a_text_has_one_form(text: str, means: str) -> None:
    assert str(parse_dependency(text)) == means
    assert parse_dependency(means) == parse_dependency(text)
    assert document(dependency=text).spec.dependency == means


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (12, "must be text, not the number 12"),
        (["afterok:12"], "must be text, not a list"),
        ("", "has an empty part; write it such as afterok"),
        ("afterok:12,", "has an empty part"),
        ("12", r"'12' is no type of dependency; allowed are after, afterok"),
        ("afterOK:12", r"'afterOK' is no type .*\(did you mean 'afterok'\?\)"),
        ("singleton", "'singleton' is no type of dependency"),
        ("afterok", "afterok names no workload"),
        ("afterok:", "afterok has an empty name"),
        ("afterok:12:", "afterok has an empty name"),
        ("afterok:12+5", "is not a name"),
        ("afterok:-1", "is not a name"),
        ("afterok:Train", "is not a name"),
        ("afterok:a/b/c", "is not a name"),
        ("afterok:/a", "is not a name"),
        ("afterok:ana/12", "would be read as a workload's id"),
        ("afterok:$(id)", "is not a name"),
        ("afterok:1234567890123456789012", "would be read as a workload's id"),
        ("afterok:12,after:13?after:14", "has both ',' and '?'"),
        ("after:" + ":".join(map(str, range(1001))), "names 1001 workloads; allowed"),
    ],
)
def test_bad_texts_are_refused_with_the_way_to_write_them(
    value: object, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        parse_dependency(value)


def test_a_refusal_names_the_option() -> None:
    with pytest.raises(ManifestError, match=r"^--dependency: 'soon' is no type"):
        document(dependency="soon:1")
