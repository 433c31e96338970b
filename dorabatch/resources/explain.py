"""Why a document was refused, in sentences.

Turns pydantic's findings into problems with a field and a sentence each: what was
seen, what is allowed, which known field was probably meant. It never raises for the
user itself and never reads YAML.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dorabatch.resources.document import WorkspacedMetadata
from dorabatch.resources.names import quoted, show
from dorabatch.resources.nearest import did_you_mean, nearest
from dorabatch.resources.yamltree import Loc

PROBLEMS_MAX = 50
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_-]{1,60}")
_WITH_GROUP = ("VolumeMount",)
_EXAMPLES = {
    "metadata": "metadata: {name: blue.red}",
    "metadata.name": "name: blue.red",
    "spec.driver": "driver: Docker",
    "spec.selectors": "selectors: {cpu: {count: 1}}",
    "spec.image": "image: {image: ubuntu}",
    "spec.image.image": "image: ubuntu",
    "spec.config": "config: {cmd: /bin/bash}",
    "spec.selectors.cpu.count": "count: 1",
    "spec.selectors.gpu.count": "count: 1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where."""

    loc: Loc
    sentence: str


def render_field(loc: Loc) -> str:
    """spec.volumes[1].target; a key that is not a plain word is quoted."""
    text = ""
    for step in loc:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step if _PLAIN_WORD.fullmatch(step) else quoted(step)}"
    return text.removeprefix(".")


def explain(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Every problem found, a misspelled required field counting once."""
    found = error.errors(include_url=False)[:PROBLEMS_MAX]
    meant = {_meant(model, item) for item in found if item["type"] == "extra_forbidden"}
    return [
        Problem(loc=_loc_of(item), sentence=_sentence(model, item))
        for item in found
        if item["type"] != "missing" or item["loc"] not in meant
    ]


def _loc_of(item: ErrorDetails) -> Loc:
    loc = item["loc"]
    return (*loc, *item["ctx"]["at"].split(".")) if item["type"] == "at" else loc


def _sentence(model: type[BaseModel], item: ErrorDetails) -> str:
    context: Mapping[str, Any] = item.get("ctx", {})
    match item["type"]:
        case "value_error":
            return str(context["error"])
        case "at":
            return str(context["sentence"])
        case "missing":
            example = _EXAMPLES.get(render_field(item["loc"]))
            return "is missing" + (f"; for example {example}" if example else "")
        case "extra_forbidden":
            return _unknown_field(model, item)
        case "literal_error":
            return _not_a_choice(str(context["expected"]), item["input"])
        case "too_long" | "string_too_long":
            return f"is too long; allowed are {context['max_length']}"
    wanted = {
        "bool_type": "true or false",
        "string_type": "text",
        "tuple_type": "a list",
    }.get(item["type"], "a mapping")
    return f"must be {wanted}, not {show(item['input'])}"


def _not_a_choice(expected: str, value: object) -> str:
    choices = expected.split("'")[1::2]
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    return f"must be {expected}, not {show(value)}{hint}"


def _unknown_field(model: type[BaseModel], item: ErrorDetails) -> str:
    *parent, key = item["loc"]
    word = str(key)
    known = _fields_at(model, tuple(parent))
    home = _home_of(model, word)
    if home is None:
        hint = did_you_mean(word, known)
    else:
        hint = f" (it belongs under {render_field(home)})"
    allowed = f"; known here: {', '.join(known)}" if known else ""
    return f"there is no field {quoted(word)}{hint}{allowed}"


def _home_of(model: type[BaseModel], word: str) -> Loc | None:
    """Where the kind has a field of exactly this name, if in one place only."""
    homes = [loc[:-1] for loc in _all_fields(model) if loc[-1] == word]
    return homes[0] if len(homes) == 1 else None


def _meant(model: type[BaseModel], item: ErrorDetails) -> Loc:
    """The field that an unknown one was probably meant to be, or ()."""
    *parent, key = item["loc"]
    if _home_of(model, str(key)) is not None:
        return ()
    close = nearest(str(key), _fields_at(model, tuple(parent)))
    return (*parent, close) if close else ()


def _part_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Annotated[tuple[Model, ...] | None, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        part = _part_in(inner)
        if part is not None:
            return part
    return None


def _fields(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    fields = {
        info.alias or name: _part_in(info.annotation)
        for name, info in model.model_fields.items()
    }
    if issubclass(model, WorkspacedMetadata) or model.__name__ in _WITH_GROUP:
        fields["group"] = None
    return fields


def _fields_at(model: type[BaseModel], loc: Loc) -> list[str]:
    part: type[BaseModel] | None = model
    for step in loc:
        if part is not None and isinstance(step, str):
            part = _fields(part).get(step)
    return [] if part is None else list(_fields(part))


def _all_fields(model: type[BaseModel], loc: Loc = ()) -> Iterator[Loc]:
    for name, part in _fields(model).items():
        yield (*loc, name)
        if part is not None:
            yield from _all_fields(part, (*loc, name))
