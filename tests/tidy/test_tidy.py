"""House rules that no linter knows: sizes, a core without I/O, knowledge kept in data, nothing left half done.

Each rule is a function from source text to violations, so that every rule is also shown to fail on a planted case.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE_LINES_MAX = 400
TEST_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

Rule = Callable[[str], list[str]]

_SKIPPED_DIRS = {"__pycache__", "dist", "build", "out", "node_modules"}
_HIDDEN_DIRS_KEPT = {".ci", ".github"}
_TEXT_SUFFIXES = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".c", ".ptx", ".j2", ".cfg", ""}

# Names that belong into matrices/: a search that knows them has stopped being a search.
_VENDOR_WORDS = {
    "nvidia", "cuda", "driver", "drivers", "nccl", "cudnn", "tensorrt", "fabric", "fabricmanager", "imex", "nscq",
    "nvswitch", "nvlink", "dcgm", "hopper", "ampere", "volta", "blackwell", "toolkit", "toolkits",
}  # fmt: skip
_VENDOR_PATTERN = re.compile(r"\b(?:[vahb]\d{2,3}|[345]\d{2}(?:\.\d+)+|5[1-9]0)\b", re.IGNORECASE)

_BANNED_NAMES = {"open", "print", "input", "exec", "eval", "breakpoint"}
_BANNED_ATTRIBUTES = {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "uuid.uuid1", "uuid.uuid4", "sys.stdout",
    "sys.stderr", "sys.argv",
}  # fmt: skip


def _tree(pattern: str) -> list[Path]:
    """Return the project's own files that match a glob, sorted, without caches and build outputs."""
    expression = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return [path for path in _own_files() if re.fullmatch(expression, _name(path))]


@cache
def _own_files() -> tuple[Path, ...]:
    found = []
    for folder, folders, names in os.walk(ROOT):
        # Pruned in place: an environment holds tens of thousands of files that are not ours.
        folders[:] = [f for f in folders if f not in _SKIPPED_DIRS and (f[0] != "." or f in _HIDDEN_DIRS_KEPT)]
        found += [Path(folder, name) for name in names]
    return tuple(sorted(found))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _violations(paths: list[Path], rule: Rule) -> list[str]:
    return [f"{_name(path)}:{found}" for path in paths for found in rule(path.read_text(encoding="utf-8"))]


def _contract(name: str) -> dict[str, list[str]]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = document["tool"]["importlinter"]["contracts"]
    return next(c for c in contracts if c["name"].startswith(name))


def _core_files() -> list[Path]:
    files: list[Path] = []
    for module in _contract("The core does no I/O")["source_modules"]:
        base = ROOT / module.replace(".", "/")
        files += sorted(base.glob("**/*.py")) if base.is_dir() else [base.with_suffix(".py")]
    return files


# --- the rules ------------------------------------------------------------------------------------------------


def long_functions(source: str) -> list[str]:
    """Return ``line: …`` for every function longer than 60 lines, docstring included, decorators apart."""
    return [
        f"{node.lineno}: {node.name} has {length} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def missing_docstrings(source: str) -> list[str]:
    """Return ``line: …`` for the module and for each public class, function and method without a docstring."""
    module = ast.parse(source)
    found = [] if ast.get_docstring(module) else ["1: module has no docstring"]

    def visit(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_"):
                continue
            if not ast.get_docstring(node) and not _is_overload(node):
                yield f"{node.lineno}: {node.name} has no docstring"
            if isinstance(node, ast.ClassDef):
                yield from visit(node.body)

    return found + list(visit(module.body))


def _is_overload(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(ast.unparse(d).split("(")[0] in {"overload", "typing.overload"} for d in decorators)


def impure_calls(source: str) -> list[str]:
    """Return ``line: …`` for each use of the clock, chance, the environment, files or streams."""
    forbidden = set(_contract("The core does no I/O")["forbidden_modules"]) | {"secrets", "tempfile", "shutil", "io"}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _BANNED_NAMES:
            found.append(f"{node.lineno}: {node.func.id}()")
        elif isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if text.removeprefix("datetime.") in _BANNED_ATTRIBUTES or text in _BANNED_ATTRIBUTES:
                found.append(f"{node.lineno}: {text}")
        elif isinstance(node, ast.Import):
            found += [f"{node.lineno}: import {a.name}" for a in node.names if a.name.split(".")[0] in forbidden]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] in forbidden:
            found.append(f"{node.lineno}: from {node.module} import")
    return found


def vendor_names(source: str) -> list[str]:
    """Return ``line: …`` for each vendor name in an identifier or a string; docstrings may give examples."""
    module = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found = []
    for node in ast.walk(module):
        for text in _texts(node) if id(node) not in docstrings else ():
            words = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower()))
            hits = sorted(words & _VENDOR_WORDS) or _VENDOR_PATTERN.findall(text)
            found += [f"{getattr(node, 'lineno', 1)}: {hit!r} in {text[:60]!r}" for hit in hits]
    return found


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int) and not isinstance(node.value, bool):
        yield str(node.value)
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.arg | ast.keyword):
        yield node.arg or ""
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.alias):
        yield node.name


def placeholders(source: str) -> list[str]:
    """Return ``line: …`` for words that mark work left undone."""
    pattern = re.compile(r"\b(TODO|FIXME|XXX|TBD|HACK|NotImplementedError)\b|lorem ipsum|coming soon")
    return _lines_with(pattern, source)


def machine_paths(source: str) -> list[str]:
    """Return ``line: …`` for paths that exist on one machine only."""
    return _lines_with(re.compile(r"(?<![\w.-])/(?:work|root/\.pyenv|home/[a-z]+|Users/[A-Za-z]+)/"), source)


def _lines_with(pattern: re.Pattern[str], source: str) -> list[str]:
    return [
        f"{number}: {match.group()}"
        for number, line in enumerate(source.splitlines(), start=1)
        if (match := pattern.search(line))
    ]


def not_only_a_docstring(source: str) -> list[str]:
    """Return a violation when a module holds anything but its docstring."""
    body = ast.parse(source).body
    return [] if len(body) == 1 and ast.get_docstring(ast.parse(source)) else ["1: more, or less, than a docstring"]


def too_new_for_nodes(source: str) -> list[str]:
    """Return ``line: …`` for syntax or imports that a node's own Python 3.8 lacks."""
    try:
        module = ast.parse(source, feature_version=(3, 8))
    except SyntaxError as exc:
        return [f"{exc.lineno}: {exc.msg}"]
    allowed = sys.stdlib_module_names | {"ansible", "planner", "pynvml", "probe"}
    found = []
    for node in ast.walk(module):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        found += [f"{node.lineno}: import {name}" for name in names if name.split(".")[0] not in allowed]
    return found


# --- the project obeys them -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "limit"),
    [("planner/**/*.py", CODE_LINES_MAX), ("playbooks/**/*.py", CODE_LINES_MAX), ("benchmarks/**/*.py", CODE_LINES_MAX),
     ("run", CODE_LINES_MAX), ("ARCHITECTURE.md", 250), ("tests/**/*.py", TEST_LINES_MAX)],
)  # fmt: skip
def test_no_file_is_too_long(pattern: str, limit: int) -> None:
    """A file that outgrows its limit has two subjects."""
    lengths = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _tree(pattern)}
    assert {name: lines for name, lines in lengths.items() if lines > limit} == {}


@pytest.mark.parametrize(
    ("patterns", "rule"),
    [
        (("planner/**/*.py", "playbooks/**/*.py", "benchmarks/**/*.py"), long_functions),
        (("planner/**/*.py", "playbooks/**/*.py"), missing_docstrings),
        (("planner/search/**/*.py", "planner/check/**/*.py"), vendor_names),
        (("planner/*/**/__init__.py",), not_only_a_docstring),
        (("planner/probe/**/*.py", "playbooks/**/*.py"), too_new_for_nodes),
    ],
    ids=["long-functions", "docstrings", "vendor-names", "init-files", "python-3.8-on-nodes"],
)
def test_code_obeys(patterns: tuple[str, ...], rule: Rule) -> None:
    """Every source file keeps the rule."""
    paths = [path for pattern in patterns for path in _tree(pattern)]
    assert paths
    assert _violations(paths, rule) == []


def test_the_core_does_no_io_and_reads_no_clock() -> None:
    """Modules of the core contract exist and use no clock, chance, environment, file or stream."""
    files = _core_files()
    assert [_name(path) for path in files if not path.is_file()] == []
    assert _violations(files, impure_calls) == []


@pytest.mark.parametrize("rule", [placeholders, machine_paths], ids=["placeholders", "machine-paths"])
def test_nothing_half_done_or_bound_to_one_machine(rule: Rule) -> None:
    """No tracked text marks undone work or names a path of the machine it was written on."""
    recorded = ("benchmarks/evidence/", "tests/tidy/test_tidy.py")  # what machines said stays as they said it
    paths = [
        path
        for path in _tree("**/*")
        if path.suffix in _TEXT_SUFFIXES and not _name(path).startswith(recorded) and ".github" not in path.parts
    ]
    assert _violations([p for p in paths if not p.name.startswith("LICENSE")], rule) == []


# --- the rules bite -------------------------------------------------------------------------------------------

_LONG = '"""M."""\ndef f():\n' + "    pass\n" * FUNCTION_LINES_MAX


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (long_functions, _LONG, '"""M."""\ndef f():\n    pass\n'),
        (missing_docstrings, '"""M."""\nclass A:\n    def b(self): pass\n', '"""M."""\ndef _private(): pass\n'),
        (impure_calls, "from datetime import datetime\nx = datetime.now()\n", "x = len([])\n"),
        (impure_calls, "import datetime\nx = datetime.datetime.now()\n", "import datetime\n"),
        (impure_calls, "open('x')\n", "reopen('x')\n"),
        (impure_calls, "import os.path\n", "import math\n"),
        (impure_calls, "from time import monotonic\n", "from planner.model.time import hours\n"),
        (vendor_names, "old_driver = 1\n", '"""The driver moves first."""\n'),
        (vendor_names, "x = 'CUDA'\n", "x = 'component'\n"),
        (vendor_names, "if branch >= 580: pass\n", "if size >= 100: pass\n"),
        (vendor_names, "x = '535.104.05'\n", "x = '1.2.3'\n"),
        (vendor_names, "def isHopper(): pass\n", "def is_cohort(): pass\n"),
        (placeholders, "# TO" + "DO: later\n", "# today\n"),
        (machine_paths, "see /wo" + "rk/main\n", "a network/work/x\n"),
        (not_only_a_docstring, '"""D."""\nimport os\n', '"""D."""\n'),
        (too_new_for_nodes, "match 1:\n    case 1: pass\n", "x = 1\n"),
        (too_new_for_nodes, "import yaml\n", "import json\n"),
    ],
)
def test_each_rule_finds_a_planted_case(rule: Rule, bad: str, good: str) -> None:
    """A rule that cannot fail protects nothing."""
    assert rule(bad) != []
    assert rule(good) == []
