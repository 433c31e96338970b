"""The table of options fits the document, and one entry is all that an option needs."""

import json
import subprocess
import sys
from itertools import combinations
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel

from dorabatch.resources.conversions import CONVERSIONS
from dorabatch.resources.job_options import JOB_OPTIONS, JobOption
from dorabatch.resources.option import FLAG, SWITCH, TEXT, Option
from dorabatch.resources.workload import WorkloadDocument

# One entry more, for a field that a document has; all else follows from it.
WITH_ONE_MORE = """
import json
from dorabatch.resources import job_options as table

entry = table.JobOption(
    "-Y --goodbye SECONDS",
    table.TEXT,
    "How long it may take to stop.",
    "spec.config.stopGrace",
    conversion=table.NUMBER,
    request_key="goodbyes",
)
others = [one for one in table.JOB_OPTIONS if one.place != entry.place]
table.JOB_OPTIONS = (*others, entry)

from dorabatch.cmds import (
    argv, dsub, dsub_options, generated, manual, options, script_file
)
from dorabatch.errors import ManifestError
from dorabatch.resources.submission import workload_from_options


def answer(*words, **environ):
    values = argv.parse(dsub_options.DSUB, ["--image", "a", *words])
    return dsub.build(values, environ).body["options"]


def refusal():
    try:
        workload_from_options(answer("-Y", "soon"), default_name="a")
    except ManifestError as error:
        return error.field


full = generated.TableCommand(dsub_options.DSUB)
context = full.make_context("dsub", ["--image", "a", "-Y", "7"])
sent = answer("--goodbye=7")
document = workload_from_options(sent, default_name="a")
print(json.dumps({
    "quick parser": sent,
    "full parser": dsub.build(full.values(context), {}).body["options"],
    "environment": answer(DSUB_GOODBYE="7"),
    "script": script_file.script_options("a", "#!/bin/sh\\n#DSUB -Y 7\\n"),
    "document": document.spec.config.stop_grace_seconds,
    "refusal": refusal(),
    "help": full.get_help(context),
    "man page": manual.render_man("dsub"),
    "page": manual.render_markdown(),
}))
"""


def annotation_at(place: str) -> object:
    """The type of the field at a place of a Workload; KeyError where there is none."""
    found: object = WorkloadDocument
    for step in place.split("."):
        model = part_in(found)
        fields = {} if model is None else model.model_fields
        by_alias = {info.alias or name: info for name, info in fields.items()}
        found = by_alias[step].annotation
    return found


def part_in(annotation: object) -> type[BaseModel] | None:
    """The model in `Model | None`; a list of them is a field of its own."""
    choices = () if get_origin(annotation) is tuple else get_args(annotation)
    for one in (annotation, *choices):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


@pytest.mark.parametrize("option", JOB_OPTIONS, ids=lambda option: option.key)
def test_every_place_is_a_field_of_a_workload(option):
    assert part_in(annotation_at(option.place)) is None, "one field, not a part"


@pytest.mark.parametrize("place", ["spec.config.memroy", "spec.image.image.name"])
def test_the_check_above_sees_a_place_that_is_none(place):
    with pytest.raises(KeyError):
        annotation_at(place)


def test_every_conversion_has_its_function():
    assert {option.conversion for option in JOB_OPTIONS} <= set(CONVERSIONS)


def test_no_two_options_share_a_flag_a_name_or_a_place():
    assert clashes(JOB_OPTIONS) == []


@pytest.mark.parametrize(
    "twin",
    [
        JobOption("-i --picture X", TEXT, "", "spec.x"),
        JobOption("--picture X", TEXT, "", "spec.x", request_key="image"),
        JobOption("--picture X", TEXT, "", "spec.image.image"),
        JobOption("--picture X", TEXT, "", "spec.image.image.name"),
    ],
)
def test_the_check_above_sees_twins(twin):
    assert clashes((*JOB_OPTIONS, twin)) == [("image", "picture")]


def clashes(options):
    """Pairs of which one would hide or overwrite the other."""
    return [
        (one.key, other.key)
        for one, other in combinations(options, 2)
        if set(one.flags) & set(other.flags)
        or one.request_key == other.request_key
        or f"{other.place}.".startswith(f"{one.place}.")
        or f"{one.place}.".startswith(f"{other.place}.")
    ]


@pytest.mark.parametrize(
    ("written", "flags", "metavar", "key"),
    [
        ("-G --gpus N", ("-G", "--gpus"), "N", "gpus"),
        ("--gpu-model MODEL", ("--gpu-model",), "MODEL", "gpu_model"),
        ("--no-x --x", ("--no-x", "--x"), "", "x"),
        ("-v --volume [W/]N:T", ("-v", "--volume"), "[W/]N:T", "volume"),
    ],
)
def test_how_an_option_is_written(written, flags, metavar, key):
    option = Option(written, TEXT, "")
    assert (option.flags, option.metavar, option.key) == (flags, metavar, key)


def test_what_takes_a_value_names_it():
    for option in JOB_OPTIONS:
        assert bool(option.metavar) == (option.kind not in (FLAG, SWITCH)), option.key


@pytest.fixture(scope="module")
def found():
    argv = [sys.executable, "-c", WITH_ONE_MORE]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["quick parser", "full parser", "environment"])
def test_one_entry_reaches_the_request(found, way):
    assert found[way] == {"image": "a", "goodbyes": "7"}


def test_one_entry_reaches_the_lines_of_a_script(found):
    assert found["script"] == {"goodbye": "7"}


def test_one_entry_reaches_the_document_and_its_refusals(found):
    assert found["document"] == 7
    assert found["refusal"] == "--goodbye"


@pytest.mark.parametrize(
    ("where", "head"),
    [
        ("help", "-Y, --goodbye SECONDS"),
        ("man page", "\\-Y, \\-\\-goodbye SECONDS\n"),
        ("page", "| `-Y, --goodbye SECONDS` | "),
    ],
)
def test_one_entry_reaches_the_manual(found, where, head):
    assert head in found[where]
    assert "How long it may take to stop." in found[where]
