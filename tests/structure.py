"""Measures of the house as a whole: names, lengths, bags of references, purity.

Each takes all parsed sources, or the graph of their imports, and returns violations in
the words of tests/tidy.py; none prints, reads a file, or knows what is allowed. How
long one function or file may be, tests/tidy.py says.

Where a rule is about the whole, its violations name the house and no file: files may
move without a change to what is allowed.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import PurePath

from grimp import ImportGraph

from tests.tidy import Function, Source, Violation, function_lines

ASSEMBLY = "assembly.py"
"""Each wing may have one: it puts the wing's objects together and holds no rule."""
TAKE_ALL = frozenset({ASSEMBLY, "main.py", "service.py"})
"""Files that may take the whole; `service.py` starts and stops it."""
HOUSE = "dorabatch"
USUAL_PART = 0.95
USUAL_LINES_MAX = 25
PARTS_MAX = 6
OUTSIDE = (
    "sqlalchemy",
    "docker",
    "paramiko",
    "pynvml",
    "socket",
    "subprocess",
    "threading",
    "time",
    "random",
    "os",
)
INSIDE = ("db", "clock")
"""What reads or changes the world: packages, and modules of our own."""

_PURE = re.compile(r"\bPure\b")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_VALUE_BASES = re.compile(
    r"^(enum\.\w*(Enum|Flag)|pydantic\.BaseModel|\w*(Exception|Error))$"
)
_RECORD_BASES = {"typing.NamedTuple", "typing.TypedDict"}
_CALLABLE = {"collections.abc.Callable", "typing.Callable"}
_LITERAL = "typing.Literal"


# -- names and sizes -----------------------------------------------------------


def repeated_files(sources: Iterable[Source]) -> list[Violation]:
    """File names that several folders have, save those that each may have."""
    places: dict[str, list[str]] = {}
    for source in sources:
        path = PurePath(source.path)
        if path.name not in ("__init__.py", ASSEMBLY):
            places.setdefault(path.name, []).append(source.path)
    return _repeated("file-name-twice", places)


def repeated_classes(sources: Iterable[Source]) -> list[Violation]:
    """Class names that are defined more than once, private and nested ones too."""
    places: dict[str, list[str]] = {}
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{source.path}:{node.lineno}")
    return _repeated("class-name-twice", places)


def _repeated(rule: str, places: dict[str, list[str]]) -> list[Violation]:
    return [
        _violation(rule, name, f"{name} is in {', '.join(where)}", len(where))
        for name, where in sorted(places.items())
        if len(where) > 1
    ]


def usual_lines(sources: Iterable[Source]) -> int:
    """How long a function is that USUAL_PART of all are no longer than."""
    lines = sorted(n for source in sources for _, _, n in function_lines(source))
    return lines[ceil(USUAL_PART * len(lines)) - 1] if lines else 0


def lengthy_functions(sources: Sequence[Source]) -> list[Violation]:
    """The house when too many of its functions are longer than USUAL_LINES_MAX."""
    usual = usual_lines(sources)
    if usual <= USUAL_LINES_MAX:
        return []
    longer = sum(
        lines > USUAL_LINES_MAX
        for source in sources
        for _, _, lines in function_lines(source)
    )
    message = (
        f"{USUAL_PART:.0%} of the functions have up to {usual} lines (at most "
        f"{USUAL_LINES_MAX}); {longer} have more"
    )
    return [_violation("usual-function", "lines", message, usual)]


# -- bags ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    """A source and what its names mean: name -> dotted name."""

    name: str
    source: Source
    meanings: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Class:
    """One class and the dotted names of its bases."""

    node: ast.ClassDef
    module: _Module
    bases: tuple[str, ...]


class House:
    """The classes of all sources, and which of them are bags.

    A part is a reference to something that acts or changes: a class of the house that
    is no value, a class of a package OUTSIDE, or a function. A value is an enum, an
    error, a pydantic model, or a frozen dataclass or named tuple without a part itself.
    A bag is a class with more than PARTS_MAX public fields that are parts; fields are
    what it and its bases annotate, what `__init__` keeps of its parameters, and
    properties.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._modules = [_module(source) for source in sources]
        self._classes = {
            f"{module.name}.{node.name}": _class(node, module)
            for module in self._modules
            for node in module.source.tree.body
            if isinstance(node, ast.ClassDef)
        }
        self._values: dict[str, bool] = {}

    def bags(self) -> dict[str, tuple[str, ...]]:
        """Dotted name of each bag -> the fields that are parts."""
        found = {name: self.parts(name) for name in self._classes}
        return {name: has for name, has in found.items() if len(has) > PARTS_MAX}

    def parts(self, name: str) -> tuple[str, ...]:
        """The public fields of a class, and of its bases, that are parts."""
        one = self._classes.get(name)
        if one is None:
            return ()
        inherited = [part for base in one.bases for part in self.parts(base)]
        own = [
            field
            for field, annotation in _fields(one.node)
            if any(map(self._is_part, _names(annotation, one.module.meanings)))
        ]
        return tuple(dict.fromkeys([*inherited, *own]))

    def takers(self, bag: str) -> list[str]:
        """The parameters, and the fields of dataclasses, that are given the bag."""
        return [
            f"{module.source.path}:{place.lineno}"
            for module in self._modules
            for place in _annotations(module.source.tree)
            if bag in _names(place, module.meanings)
        ]

    def _is_part(self, name: str) -> bool:
        if name in _CALLABLE:
            return True
        if name in self._classes:
            return not self._is_value(name)
        return name.split(".")[0] in OUTSIDE

    def _is_value(self, name: str) -> bool:
        if name not in self._values:
            # A class that refers to itself is judged by its other fields.
            self._values[name] = True
            self._values[name] = self._judge(self._classes[name], name)
        return self._values[name]

    def _judge(self, one: _Class, name: str) -> bool:
        bases = set(self._bases(name))
        if any(map(_VALUE_BASES.search, bases)):
            return True
        is_record = _is_frozen(one.node) or bool(bases & _RECORD_BASES)
        return is_record and not self.parts(name)

    def _bases(self, name: str) -> Iterator[str]:
        """The bases of a class, and theirs."""
        for base in self._classes[name].bases if name in self._classes else ():
            yield base
            yield from self._bases(base)


def _may_take_all(taker: str) -> bool:
    """Whether a place is where the whole is put together, or started and stopped."""
    return PurePath(taker.partition(":")[0]).name in TAKE_ALL


def taken_bags(sources: Iterable[Source]) -> list[Violation]:
    """Each bag that is handed around, with the number of places that take it."""
    house = House(sources)
    found = []
    for bag, parts in sorted(house.bags().items()):
        takers = [one for one in house.takers(bag) if not _may_take_all(one)]
        if takers:
            message = (
                f"{bag} is a bag ({len(parts)} parts: {', '.join(parts)}) and is taken "
                f"at {len(takers)} places: {', '.join(takers)}"
            )
            name = bag.rpartition(".")[2]
            found.append(_violation("takes-a-bag", name, message, len(takers)))
    return found


def _module(source: Source) -> _Module:
    path = PurePath(source.path).with_suffix("")
    parts = path.parts[:-1] if path.name == "__init__" else path.parts
    name = ".".join(parts)
    meanings = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known = alias.asname or alias.name.split(".")[0]
                meanings[known] = alias.name if alias.asname else known
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                meanings[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef):
            meanings[node.name] = f"{name}.{node.name}"
    return _Module(name=name, source=source, meanings=meanings)


def _class(node: ast.ClassDef, module: _Module) -> _Class:
    bases = [name for base in node.bases for name in _names(base, module.meanings)]
    return _Class(node=node, module=module, bases=tuple(bases))


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """Public fields and their annotations, whichever way they are said."""
    for one in node.body:
        if isinstance(one, ast.AnnAssign):
            yield from _public(one.target, one.annotation)
        elif isinstance(one, _FUNCTIONS) and one.name == "__init__":
            yield from _kept(one)
        elif isinstance(one, _FUNCTIONS) and _is_property(one):
            yield from _public(ast.Name(one.name), one.returns)


def _public(
    target: ast.expr | None, annotation: ast.expr | None
) -> Iterator[tuple[str, ast.expr]]:
    name = ""
    if isinstance(target, ast.Name):
        name = target.id
    elif isinstance(target, ast.Attribute):
        name = target.attr
    if name and not name.startswith("_") and annotation is not None:
        yield name, annotation


def _is_property(function: Function) -> bool:
    named = {ast.unparse(one).split(".")[-1] for one in function.decorator_list}
    return bool(named & {"property", "cached_property"})


def _kept(init: Function) -> Iterator[tuple[str, ast.expr]]:
    given = {one.arg: one.annotation for one in _parameters(init.args)}
    for node in ast.walk(init):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            yield from _public(node.target, node.annotation)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            for target in node.targets:
                if isinstance(target, ast.Attribute):
                    yield from _public(target, given.get(node.value.id))


def _annotations(tree: ast.Module) -> Iterator[ast.expr]:
    """The annotations of all parameters, and of the fields of dataclasses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            given = [one.annotation for one in _parameters(node)]
            yield from (one for one in given if one is not None)
        elif isinstance(node, ast.ClassDef) and _dataclass(node) is not None:
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign):
                    yield statement.annotation


def _parameters(given: ast.arguments) -> list[ast.arg]:
    starred = [one for one in (given.vararg, given.kwarg) if one is not None]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *starred]


def _names(annotation: ast.expr, meanings: dict[str, str]) -> Iterator[str]:
    """The dotted names in an annotation, quoted ones too; not what a Literal holds."""
    waiting: list[ast.AST] = [annotation]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name | ast.Attribute):
            head, dot, rest = ast.unparse(node).partition(".")
            yield f"{meanings.get(head, head)}{dot}{rest}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            waiting.extend(_quoted(node.value))
        elif not _is_literal(node, meanings):
            waiting.extend(ast.iter_child_nodes(node))


def _quoted(text: str) -> list[ast.AST]:
    try:
        return [ast.parse(text, mode="eval").body]
    except SyntaxError:
        # A remark in an Annotated, not a quoted annotation.
        return []


def _is_literal(node: ast.AST, meanings: dict[str, str]) -> bool:
    return isinstance(node, ast.Subscript) and _LITERAL in _names(node.value, meanings)


def _dataclass(node: ast.ClassDef) -> ast.expr | None:
    """The decorator that makes the class a dataclass."""
    for decorator in node.decorator_list:
        named = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(named).split(".")[-1] == "dataclass":
            return decorator
    return None


def _is_frozen(node: ast.ClassDef) -> bool:
    decorator = _dataclass(node)
    return isinstance(decorator, ast.Call) and any(
        keyword.arg == "frozen" and ast.unparse(keyword.value) == "True"
        for keyword in decorator.keywords
    )


# -- purity --------------------------------------------------------------------


def forbidden_modules(root: str) -> tuple[str, ...]:
    """What a pure module of a package may not reach."""
    return (*OUTSIDE, *(f"{root}.{name}" for name in INSIDE))


def pure_modules(sources: Iterable[Source]) -> list[str]:
    """The modules whose head calls them Pure; a package's head speaks for all in it."""
    modules = {_module(source).name: source for source in sources}
    said = [name for name, one in modules.items() if _PURE.search(_head(one.tree))]
    packages = tuple(
        f"{name}." for name in said if modules[name].path.endswith("/__init__.py")
    )
    return sorted({*said, *(name for name in modules if name.startswith(packages))})


def _head(tree: ast.Module) -> str:
    return ast.get_docstring(tree) or ""


def impure_modules(
    sources: Sequence[Source], graph: ImportGraph, forbidden: Iterable[str]
) -> list[Violation]:
    """Modules called Pure that reach what is forbidden, each with the chain to it."""
    targets = [
        module
        for module in sorted(graph.modules)
        if any(f"{module}.".startswith(f"{one}.") for one in forbidden)
    ]
    paths = {_module(source).name: source.path for source in sources}
    return [
        Violation(
            rule="impure",
            path=paths[module],
            subject=target,
            line=1,
            message=f"is called Pure but reaches {target}: {' -> '.join(chain)}",
        )
        for module in pure_modules(sources)
        for target in targets
        if (chain := graph.find_shortest_chain(module, target)) is not None
    ]


def _violation(rule: str, subject: str, message: str, size: int) -> Violation:
    return Violation(
        rule=rule, path=HOUSE, subject=subject, line=1, message=message, size=size
    )
