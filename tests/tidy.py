"""The house rules that no bought tool checks, as functions that return violations.

Each takes one parsed source and only reads it; none prints, skips or knows which
exceptions are allowed (that list is in test_tidy.py).
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 500
NESTING_MAX = 4

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.Try,
    ast.TryStar,
    ast.With,
    ast.AsyncWith,
    ast.Match,
)
_MUTABLE_DISPLAYS = (
    ast.List,
    ast.Dict,
    ast.Set,
    ast.ListComp,
    ast.DictComp,
    ast.SetComp,
)
_MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter"}
_BROAD = {"Exception", "BaseException"}
_WALL_CLOCKS = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "time.time",
    "time.time_ns",
}
_VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
_UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX|HACK|[Ff]or now|[Pp]laceholder|[Ss]implified)\b"
)
# Written in two parts so that this file does not contain what it looks for.
_MACHINE_PATH = re.compile(r"(?<![\w./{}-])/" + r"(?:work|tmp/brief)\b")
_LIMIT_WORDS = re.compile(
    r"\b(never|no|not|nothing|nobody|none|neither|nor|without|only|cannot)\b", re.I
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One parsed file; `path` is relative to the repository."""

    path: str
    text: str
    tree: ast.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule; `subject` names the place in a way that edits leave alone."""

    rule: str
    path: str
    subject: str
    line: int
    message: str
    size: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


Check = Callable[[Source], list[Violation]]


def parse_source(path: str, text: str) -> Source:
    """The source of one Python file."""
    return Source(path=path, text=text, tree=ast.parse(text, path))


def read_sources(root: Path, folder: str) -> list[Source]:
    """Every Python file under a folder of the repository, in order of their paths."""
    files = sorted((root / folder).rglob("*.py"))
    return [
        parse_source(file.relative_to(root).as_posix(), file.read_text())
        for file in files
    ]


def function_lines(source: Source) -> list[tuple[str, ast.AST, int]]:
    """Every function: its name, itself, and its lines without the docstring."""
    return [
        (name, function, _function_lines(function))
        for name, function in _functions(source.tree)
    ]


def long_functions(source: Source) -> list[Violation]:
    """Functions longer than FUNCTION_LINES_MAX, not counting their docstring."""
    found = []
    for name, function, lines in function_lines(source):
        if lines > FUNCTION_LINES_MAX:
            message = f"{name}() has {lines} lines (at most {FUNCTION_LINES_MAX})"
            found.append(
                _violation("long-function", source, name, function, message, lines)
            )
    return found


def long_files(source: Source) -> list[Violation]:
    """The file itself when it has more than FILE_LINES_MAX lines."""
    lines = len(source.text.splitlines())
    if lines <= FILE_LINES_MAX:
        return []
    message = f"{lines} lines (at most {FILE_LINES_MAX})"
    return [_violation("long-file", source, "", source.tree, message, lines)]


def deep_nesting(source: Source) -> list[Violation]:
    """Functions whose blocks stand more than NESTING_MAX deep in each other."""
    found = []
    for name, function in _functions(source.tree):
        depth = _depth(function.body)
        if depth > NESTING_MAX:
            message = f"{name}() nests {depth} blocks (at most {NESTING_MAX})"
            found.append(
                _violation("deep-nesting", source, name, function, message, depth)
            )
    return found


def local_imports(source: Source) -> list[Violation]:
    """Imports inside a function."""
    return [
        _violation(
            "local-import", source, name, node, f"{name}() imports inside itself"
        )
        for name, function in _functions(source.tree)
        for node in _own_nodes(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def mutable_defaults(source: Source) -> list[Violation]:
    """Parameters whose default is one shared list, dict or set."""
    found = []
    for name, function in _functions(source.tree):
        arguments = function.args
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None and _is_mutable(default):
                message = f"{name}() has a mutable default: {ast.unparse(default)}"
                found.append(
                    _violation("mutable-default", source, name, default, message)
                )
    return found


def broad_excepts(source: Source) -> list[Violation]:
    """`except:`, `except Exception` and `except BaseException`, alone or in a tuple."""
    owner = _owner_names(source.tree)
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type):
            caught = ast.unparse(node.type) if node.type else "everything"
            message = f"catches {caught}; name the errors of dorabatch.errors instead"
            subject = owner.get(node, "<module>")
            found.append(_violation("broad-except", source, subject, node, message))
    return found


def module_docstrings(source: Source) -> list[Violation]:
    """Modules that do not say what they do, or do not say what they never do."""
    if not source.tree.body:
        return []
    text = ast.get_docstring(source.tree)
    if not text:
        message = "has no docstring saying what it does and what it never does"
    elif not _LIMIT_WORDS.search(text):
        message = "its docstring does not say what the module never does"
    else:
        return []
    return [_violation("module-docstring", source, "", source.tree, message)]


def loose_dataclasses(source: Source) -> list[Violation]:
    """Dataclasses that are not frozen, slotted and keyword-only."""
    found = []
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            missing = _missing_options(decorator)
            if missing:
                message = f"dataclass {node.name} lacks {', '.join(missing)}"
                found.append(
                    _violation("loose-dataclass", source, node.name, node, message)
                )
    return found


def unfinished_words(source: Source) -> list[Violation]:
    """Words that say that the code is not finished."""
    return _matching_lines("unfinished-word", source, _UNFINISHED)


def machine_paths(source: Source) -> list[Violation]:
    """Absolute paths of the machine that the code was written on."""
    return _matching_lines("machine-path", source, _MACHINE_PATH)


def type_checking_blocks(source: Source) -> list[Violation]:
    """Uses of TYPE_CHECKING: it hides import cycles and removes none."""
    found = []
    for node in ast.walk(source.tree):
        is_name = isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"
        is_part = isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING"
        if is_name or is_part:
            found.append(
                _violation("type-checking", source, "", node, "uses TYPE_CHECKING")
            )
    return found


def wall_clock_reads(source: Source) -> list[Violation]:
    """Reads of the wall clock; outside clock.py time enters as `now`."""
    owner = _owner_names(source.tree)
    found = []
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        called = ".".join(ast.unparse(node.func).split(".")[-2:])
        if called in _WALL_CLOCKS:
            subject = owner.get(node, "<module>")
            message = f"{subject} reads the clock with {called}(); take `now` instead"
            found.append(_violation("wall-clock", source, subject, node, message))
    return found


def vague_names(source: Source) -> list[Violation]:
    """Modules named after nothing in particular."""
    path = Path(source.path)
    vague = sorted({path.stem, *path.parent.parts} & _VAGUE_NAMES)
    if not vague:
        return []
    message = f"{vague[0]!r} says nothing; name the concept that the module owns"
    return [_violation("vague-name", source, "", source.tree, message)]


CHECKS: dict[str, Check] = {
    "long-function": long_functions,
    "long-file": long_files,
    "deep-nesting": deep_nesting,
    "local-import": local_imports,
    "mutable-default": mutable_defaults,
    "broad-except": broad_excepts,
    "module-docstring": module_docstrings,
    "loose-dataclass": loose_dataclasses,
    "unfinished-word": unfinished_words,
    "machine-path": machine_paths,
    "type-checking": type_checking_blocks,
    "wall-clock": wall_clock_reads,
    "vague-name": vague_names,
}


def machine_path_lines(path: str, text: str) -> list[Violation]:
    """The machine-path rule for a file of any kind."""
    return machine_paths(Source(path=path, text=text, tree=ast.Module([], [])))


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}{node.name}"
            if isinstance(node, _FUNCTIONS):
                yield name, node
            name += "."
        yield from _functions(node, name)


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _FUNCTIONS):
            waiting.extend(ast.iter_child_nodes(node))


def _function_lines(function: Function) -> int:
    last = function.end_lineno or function.lineno
    lines = last - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def _depth(body: list[ast.stmt]) -> int:
    return max((_statement_depth(statement) for statement in body), default=0)


def _statement_depth(statement: ast.stmt) -> int:
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        return 0
    if not isinstance(statement, _BLOCKS):
        return 0
    return max(_branch_depth(statement, branch) for branch in _branches(statement))


def _branch_depth(statement: ast.stmt, branch: list[ast.stmt]) -> int:
    is_elif = (
        isinstance(statement, ast.If)
        and branch is statement.orelse
        and len(branch) == 1
        and isinstance(branch[0], ast.If)
    )
    return _depth(branch) if is_elif else 1 + _depth(branch)


def _branches(statement: ast.stmt) -> list[list[ast.stmt]]:
    branches = [
        getattr(statement, part, [])
        for part in ("body", "orelse", "finalbody")
        if getattr(statement, part, [])
    ]
    for part in ("handlers", "cases"):
        branches.extend(inner.body for inner in getattr(statement, part, []))
    return branches


def _is_mutable(default: ast.expr) -> bool:
    if isinstance(default, ast.Call):
        return ast.unparse(default.func).split(".")[-1] in _MUTABLE_CALLS
    return isinstance(default, _MUTABLE_DISPLAYS)


def _is_broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(ast.unparse(name).split(".")[-1] in _BROAD for name in names)


def _missing_options(decorator: ast.expr) -> list[str]:
    call = decorator if isinstance(decorator, ast.Call) else None
    named = ast.unparse(call.func if call else decorator)
    if named.split(".")[-1] != "dataclass":
        return []
    given = {
        keyword.arg
        for keyword in (call.keywords if call else [])
        if isinstance(keyword.value, ast.Constant) and keyword.value.value is True
    }
    return [option for option in ("frozen", "slots", "kw_only") if option not in given]


def _owner_names(tree: ast.Module) -> dict[ast.AST, str]:
    return {
        node: name for name, function in _functions(tree) for node in ast.walk(function)
    }


def _matching_lines(
    rule: str, source: Source, pattern: re.Pattern[str]
) -> list[Violation]:
    return [
        Violation(
            rule=rule,
            path=source.path,
            subject=match.group(),
            line=number,
            message=f"{match.group()!r} in: {line.strip()}",
        )
        for number, line in enumerate(source.text.splitlines(), 1)
        if (match := pattern.search(line))
    ]


def _violation(
    rule: str, source: Source, subject: str, node: ast.AST, message: str, size: int = 0
) -> Violation:
    return Violation(
        rule=rule,
        path=source.path,
        subject=subject,
        line=getattr(node, "lineno", 1),
        message=message,
        size=size,
    )
