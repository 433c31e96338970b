"""Command-line options to a Workload, the same as if a document had said it.

Puts each option where the table of options says, decides what absent ones mean, and
names the option in every refusal. Whatever a document refuses is refused here by the
same checks. It never reads argv, files or environment variables: options come as a
mapping.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dorabatch.errors import ManifestError
from dorabatch.resources.conversions import CONVERSIONS, listed
from dorabatch.resources.explain import Problem, explain, render_field
from dorabatch.resources.job_options import JOB_OPTIONS, JobOption
from dorabatch.resources.names import check_text
from dorabatch.resources.script import script_argv
from dorabatch.resources.workload import WorkloadDocument
from dorabatch.resources.yamltree import Loc

OPTIONS: dict[str, str] = {
    **{option.request_key: option.flags[-1] for option in JOB_OPTIONS},
    "cmd": "the command",
    "script": "the script",
}
"""Every key of the mapping, and how its user wrote it."""

_PLACES: dict[str, tuple[str, ...]] = {
    **{option.request_key: tuple(option.place.split(".")) for option in JOB_OPTIONS},
    "cmd": ("spec", "config", "cmd"),
}
_FILLED_BY: dict[Loc, str] = {place: key for key, place in _PLACES.items()}


def workload_from_options(
    options: Mapping[str, object], *, default_name: str
) -> WorkloadDocument:
    """The Workload that the options describe; an absent or None option is unset."""
    given = {
        key: value
        for key, value in options.items()
        if value is not None and value != [] and value != ()
    }
    unknown = sorted(given.keys() - OPTIONS.keys())
    if unknown:
        raise ManifestError("is not an option of a submission", field=unknown[0])
    if "image" not in given:
        raise ManifestError(
            "is missing and the site has set no default image; for example "
            "--image ubuntu:22.04",
            field=OPTIONS["image"],
        )
    try:
        return WorkloadDocument.model_validate(_document(given, default_name))
    except ValidationError as error:
        raise _refusal(explain(error, WorkloadDocument), given) from None


def _document(given: dict[str, object], default_name: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"driver": "Docker", "selectors": {}, "config": {}}
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Workload",
        "metadata": {"name": default_name},
        "spec": spec,
    }
    for option in JOB_OPTIONS:
        key = option.request_key
        if key in given:
            _put(document, _PLACES[key], _converted(option, given[key]))
    _count_hardware(spec["selectors"])
    if "script" in given or "cmd" in given:
        _put(document, _PLACES["cmd"], _command(given, document["metadata"]["name"]))
    return document


def _put(document: dict[str, Any], place: tuple[str, ...], value: object) -> None:
    *steps, last = place
    part = document
    for step in steps:
        part = part.setdefault(step, {})
    part[last] = value


def _converted(option: JobOption, value: object) -> object:
    try:
        return CONVERSIONS[option.conversion](value)
    except ValueError as error:
        raise ManifestError(str(error), field=option.flags[-1]) from None


def _count_hardware(selectors: dict[str, Any]) -> None:
    """One of each kind that is asked for without a count; one core if none is."""
    if "gpu" in selectors:
        selectors["gpu"].setdefault("count", 1)
    if "cpu" in selectors or "gpu" not in selectors:
        selectors.setdefault("cpu", {}).setdefault("count", 1)


def _command(given: dict[str, object], name: object) -> list[Any]:
    key = "cmd"
    try:
        words = listed(given.get(key, []))
        if "script" not in given:
            return words
        key = "script"
        return script_argv(
            check_text(given[key]),
            name=name if isinstance(name, str) else "",
            arguments=[check_text(word) for word in words],
        )
    except ValueError as error:
        raise ManifestError(str(error), field=OPTIONS[key]) from None


def _refusal(problems: list[Problem], given: dict[str, object]) -> ManifestError:
    first, *others = [(_option_of(p.loc, given), p.sentence) for p in problems]
    lines = [first[1], *(f"  also {option}: {text}" for option, text in others[:4])]
    return ManifestError("\n".join(lines), field=first[0])


def _option_of(loc: Loc, given: dict[str, object]) -> str:
    """How the user wrote what became this field."""
    for length in range(len(loc), 0, -1):
        key = _FILLED_BY.get(loc[:length])
        if key is not None:
            return OPTIONS["script" if key == "cmd" and "script" in given else key]
    return render_field(loc)
