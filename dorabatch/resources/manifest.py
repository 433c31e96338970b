"""Text or JSON to documents, or ManifestError with path, line and field.

Decides what a file as a whole may hold and in which order its documents apply.
It never opens the file: `path` is only for messages.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from pydantic import ValidationError

from dorabatch.errors import ManifestError
from dorabatch.resources.document import API_VERSIONS, Document
from dorabatch.resources.explain import Problem, explain, render_field
from dorabatch.resources.kinds import find_kind
from dorabatch.resources.names import show
from dorabatch.resources.quantity import AS_YAML
from dorabatch.resources.yamltree import (
    DEPTH_MAX,
    NODES_MAX,
    Loc,
    Value,
    read_trees,
)

PROBLEMS_SHOWN = 5

LineOf = Callable[[Loc], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A file's documents in the order to apply them, and what to warn about.

    lines[i] is the line where documents[i] begins.
    """

    documents: tuple[Document, ...]
    lines: tuple[int, ...]
    warnings: tuple[str, ...] = ()


def parse_manifest(text: str, *, path: str = "") -> Manifest:
    """Read every document of a YAML text."""
    trees, warnings = read_trees(text, path=path)
    found = [
        (_build(tree.value, path, tree.line_of, AS_YAML), tree.line)
        for tree in trees
        if tree.value is not None
    ]
    if not found:
        raise ManifestError("holds no document", path=path)
    found.sort(key=lambda pair: pair[0].rank)
    documents = tuple(document for document, _ in found)
    return Manifest(
        documents=documents,
        lines=tuple(line for _, line in found),
        warnings=(*warnings, *_warnings(documents)),
    )


def parse_json_document(value: object, *, path: str = "") -> Document:
    """Read one document that came as JSON (parsed already)."""
    return _build(_Plain(path).copy(value, 1), path, lambda _: None)


def _warnings(documents: Iterable[Document]) -> Iterable[str]:
    seen: set[tuple[str | None, ...]] = set()
    for document in documents:
        yield from document.warnings
        key = (document.kind, document.zone, document.workspace, document.name)
        if key in seen:
            yield f"{document.kind} {document.name!r} stands twice; the last one counts"
        seen.add(key)


def _build(
    value: Value,
    path: str,
    line_of: LineOf,
    context: dict[str, str] | None = None,
) -> Document:
    if not isinstance(value, dict):
        raise ManifestError(
            f"a document must be a mapping with apiVersion, kind, metadata and spec, "
            f"not {show(value)}",
            path=path,
            line=line_of(()),
        )
    field = "apiVersion"
    try:
        _check_version(value)
        field = "kind"
        model = find_kind(value)
    except ValueError as error:
        raise ManifestError(
            str(error), path=path, line=line_of((field,)), field=field
        ) from None
    try:
        return model.model_validate(value, context=context)
    except ValidationError as error:
        raise summarize(explain(error, model), path=path, line_of=line_of) from None


def _check_version(value: dict[str, Value]) -> None:
    accepted = f"accepted: {', '.join(API_VERSIONS)}"
    if "apiVersion" not in value:
        raise ValueError(f"is missing; {accepted}")
    version = value["apiVersion"]
    if version not in API_VERSIONS:
        raise ValueError(f"{show(version)} is not an accepted version; {accepted}")


def summarize(
    problems: list[Problem], *, path: str = "", line_of: LineOf = lambda _: None
) -> ManifestError:
    """One error that shows the first problems, in the order of their lines."""
    placed = sorted(
        ((_line(problem.loc, line_of), problem) for problem in problems),
        key=lambda pair: pair[0] or 0,
    )
    line, first = placed[0]
    lines = [first.sentence]
    for other_line, other in placed[1:PROBLEMS_SHOWN]:
        where = "" if other_line is None else f"line {other_line}: "
        lines.append(f"  also {where}{render_field(other.loc)}: {other.sentence}")
    if len(placed) > PROBLEMS_SHOWN:
        lines.append(f"  and {len(placed) - PROBLEMS_SHOWN} more")
    return ManifestError(
        "\n".join(lines), path=path, line=line, field=render_field(first.loc)
    )


def _line(loc: Loc, line_of: LineOf) -> int | None:
    """The line of a field; a workspace may have been written as group."""
    if loc and loc[-1] == "workspace":
        return max((line_of(loc) or 0, line_of((*loc[:-1], "group")) or 0)) or None
    return line_of(loc)


class _Plain:
    """Copies parsed JSON within the limits that YAML has, floats made exact."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._nodes = 0

    def copy(self, value: object, depth: int) -> Value:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise ManifestError(f"more than {NODES_MAX} values", path=self._path)
        if depth > DEPTH_MAX:
            raise ManifestError(
                f"nested deeper than {DEPTH_MAX} levels", path=self._path
            )
        if value is None or isinstance(value, str | int | Decimal):
            return value
        if isinstance(value, float):
            return Decimal(repr(value))
        if isinstance(value, dict):
            return {str(k): self.copy(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.copy(entry, depth + 1) for entry in value]
        raise ManifestError(f"a {type(value).__name__} is not JSON", path=self._path)
