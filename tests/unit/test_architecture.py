"""The architecture, checked: who imports whom, what physics may use, how long files are."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import deepmd
from deepmd.array_model.namespace import PLANNING, REQUIRED
from deepmd.data.search import SEARCH
from deepmd.io.kit_table import KIT, from_kit

ROOT = Path(deepmd.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
PURE = ("array_model", "losses")
PHYSICS = sorted(path for folder in PURE for path in (ROOT / folder).rglob("*.py"))
SEARCHING = [ROOT / "data/search.py", ROOT / "data/pack_candidates.py", ROOT / "data/cells.py"]
OVER_XP = [*PHYSICS, *SEARCHING]
"""Physics, and what exported files run besides."""

LAYERS = {
    "unsupported": -1,
    "version": 0,
    "forks": 0,
    "array_model": 0,
    "backends": 1,
    "world": 1,
    "losses": 1,
    "host": 1,
    "process": 1,
    "plan": 2,
    "io": 3,
    "kit": 4,
    "data": 4,
    "adapters": 5,
    "train": 6,
    "infer": 6,
    "calculator": 7,
    "engines": 7,
    "report": 7,
    "logs": 4,
    "mixed": 0,
    "doctor": 1,
    "api": 8,
    "completion": 8,
    "cli": 9,
    "cli_options": 6,
    "__main__": 10,
    "testing": 10,
}
"""A module imports from its own layer and from lower numbers; layers of the same number do not know each other."""

LATER = {
    ("deepmd/__init__.py", "mixed"): "the first import tells of DeePMD-kit in the same folder",
    ("deepmd/completion.py", "cli"): "the table of commands, which runs the completion",
    ("deepmd/__init__.py", "api"): "`deepmd.train` is imported when it is asked for",
    ("deepmd/train/__init__.py", "api"): "the folder is what users call `deepmd.train`",
    ("deepmd/__init__.py", "infer"): "`deepmd.DeepPot` is imported when it is asked for",
    ("deepmd/__init__.py", "forks"): "the first to be imported, since it has to see every process that is forked later",
}
"""Upward imports that are wanted, with reasons."""

BACKENDS = ("numpy", "torch", "tf")
FRAMEWORKS = {"torch": ("adapters/torch", "deepmd/engines"), "tensorflow": ("adapters/tf",)}
ARRAY_ATTRIBUTES = {
    "shape",
    "ndim",
    "size",
    "T",
    "mT",
    "device",
    "dtype",
    "astype",
    "reshape",
    "item",
    "numpy",
    "detach",
}

INTEGERS = {
    ("networks.py", "out == width"): "layer widths from the configuration",
    ("polar.py", "len(scales) != ntypes"): "entries of an option",
}
"""Comparisons of plain integers inside functions that have `xp`, with what they compare."""

ON_HOST = ("fresh", "init")
"""Functions of physics that run on the host only, before anything is evaluated."""

MAX_LINES, MAX_FLAGS = 460, 3
MOST_PHYSICS, MOST_WITH_MESSAGES = 2370, 3180  # with the tables of inputs: fields of neighbours, conditions
PASSING_MESSAGES = {"dpa2.py", "dpa3.py", "repformer.py", "repflow.py", "messages.py", "charge_spin.py"}


@cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes_of(path):
    return tuple(ast.walk(parse(path)))


def name_of(path):
    return path.relative_to(ROOT.parent).as_posix()


def layer_of(path):
    parts = path.relative_to(ROOT).parts
    return Path(parts[0]).stem


@cache
def imported(path):
    """Every module that is imported anywhere in a file, function bodies included; `from a import b` counts as a.b."""
    modules = []
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            modules += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the whole path"
            modules += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return modules


def import_problems(path):
    own = layer_of(path)
    for module, line in imported(path):
        top, _, rest = module.partition(".")
        where = f"{name_of(path)}:{line}: imports {module}"
        if top in FRAMEWORKS and not any(place in path.as_posix() for place in FRAMEWORKS[top]):
            yield f"{where}; {top} belongs below {' or '.join(FRAMEWORKS[top])}"
        if own in PURE and top != "deepmd" and top not in sys.stdlib_module_names:
            yield f"{where}; physics imports the standard library and itself only"
        if top != "deepmd" or own == "testing":
            continue
        other = rest.split(".")[0]
        if other not in LAYERS or (own == "__init__" and other == "version") or (name_of(path), other) in LATER:
            continue
        if own == "__init__" or LAYERS[other] > LAYERS[own] or (LAYERS[other] == LAYERS[own] and other != own):
            yield f"{where}, which is not below {own}"
        inner = path.relative_to(ROOT).parts[1:2]
        if own == other == "adapters" and inner[0] in BACKENDS and rest.split(".")[1] in set(BACKENDS) - {*inner}:
            yield f"{where}; frameworks do not know each other"


def surface_problems(path):
    nodes = nodes_of(path)
    allowed = {*REQUIRED, *(SEARCH if path in SEARCHING else ())}
    plans = [function for function in nodes if isinstance(function, ast.FunctionDef) and function.name in ON_HOST]
    on_host = {node for function in plans for node in ast.walk(function)}
    for node in nodes:
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "xp":
                if node.attr not in allowed and not (node in on_host and node.attr in PLANNING):
                    yield f"{where}: xp.{node.attr} is not in the agreed surface"
            elif node.attr in ARRAY_ATTRIBUTES:
                yield f"{where}: .{node.attr} on an array; use xp.{node.attr}(...)"
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    yield f"{where}: assigns to self.{target.attr}; nothing in physics has a state"
                if isinstance(target, ast.Subscript) and isinstance(node, ast.AugAssign):
                    yield f"{where}: writes into an array"
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            positional = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
            if "xp" in positional:
                yield f"{where}: xp must be a keyword"


def comparison_problems(path):
    for function in nodes_of(path):
        if not isinstance(function, ast.FunctionDef) or "xp" not in [arg.arg for arg in function.args.kwonlyargs]:
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                literal = any(isinstance(side, ast.Constant) for side in (node.left, *node.comparators))
                if not literal and (path.name, ast.unparse(node)) not in INTEGERS:
                    text = f"{ast.unparse(node)} in a TensorFlow graph compares identity; use xp.equal"
                    yield f"{name_of(path)}:{node.lineno}: {text}"


def is_flag(arg, default):
    annotated = arg.annotation is not None and ast.unparse(arg.annotation) == "bool"
    return annotated or (isinstance(default, ast.Constant) and isinstance(default.value, bool))


def length_problems(path):
    text = path.read_text(encoding="utf-8")
    if text.count("\n") > MAX_LINES:
        yield f"{name_of(path)}: {text.count(chr(10))} lines, at most {MAX_LINES}"
    for node in nodes_of(path):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args]
            defaults = [None] * (len(arguments) - len(node.args.defaults)) + node.args.defaults
            pairs = [
                *zip(arguments, defaults, strict=True),
                *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
            ]
            if sum(is_flag(arg, default) for arg, default in pairs) > MAX_FLAGS:
                yield f"{name_of(path)}:{node.lineno}: {node.name} has more than {MAX_FLAGS} boolean arguments"


def found(check, files):
    return [problem for path in files for problem in check(path)]


def test_imports_point_one_way():
    unknown = {layer_of(path) for path in FILES} - {*LAYERS, "__init__"}
    assert not unknown, f"no layer is known for {sorted(unknown)}"
    assert found(import_problems, FILES) == []


@pytest.mark.parametrize("folder", ["testing", "kit"])
def test_nobody_imports(folder):
    """Suites are for tests; functions of `kit` are found by `io/kit_table.py`, so that the rest does without."""
    outside = [path for path in FILES if layer_of(path) != folder]
    assert not [path for path in outside for module, _ in imported(path) if module.startswith(f"deepmd.{folder}")]


def test_table_of_kit():
    assert all(callable(from_kit(name)) for name in KIT)


@pytest.mark.parametrize("check", [surface_problems, comparison_problems], ids=lambda check: check.__name__)
def test_physics_is_portable(check):
    assert found(check, OVER_XP) == []


def test_files_are_short():
    assert found(length_problems, FILES) == []


def test_physics_is_short():
    """Statements of `array_model`: what passes messages, and the rest.

    Whoever needs more should look first for what is no physics.
    """
    files = {
        path: sum(isinstance(node, ast.stmt) for node in nodes_of(path))
        for path in (ROOT / "array_model").rglob("*.py")
        if path.name != "contracts.py"  # declarations
    }
    passing = sum(statements for path, statements in files.items() if path.name in PASSING_MESSAGES)
    assert sum(files.values()) - passing < MOST_PHYSICS
    assert sum(files.values()) < MOST_WITH_MESSAGES
    assert {path.name for path in files} >= PASSING_MESSAGES


def test_tables_have_no_stale_rows():
    texts = {path.name: ast.unparse(parse(path)) for path in PHYSICS}
    assert all(comparison in texts.get(name, "") for name, comparison in INTEGERS)
    assert all(any(f"xp.{name}(" in text for text in texts.values()) for name in PLANNING)
    assert all((ROOT.parent / name).is_file() for name, _ in LATER)


@pytest.mark.parametrize(
    ("check", "source", "message"),
    [
        (surface_problems, "y = xp.einsum(x)", "not in the agreed surface"),
        (surface_problems, "def apply(x, *, xp):\n    return xp.asarray(x)", "not in the agreed surface"),
        (surface_problems, "def fresh(x, *, xp):\n    return xp.argsort(x)", "not in the agreed surface"),
        (surface_problems, "n = x.shape", "use xp.shape"),
        (surface_problems, "self.x = 1", "state"),
        (surface_problems, "def f(x, xp): ...", "keyword"),
        (comparison_problems, "def f(a, b, *, xp):\n    return a == b", "xp.equal"),
        (import_problems, "import numpy", "standard library"),
        (import_problems, "from deepmd.data import packing", "not below"),
        (import_problems, "import torch", "adapters/torch"),
        (length_problems, "\n" * (MAX_LINES + 1), "lines"),
        (length_problems, "def f(a: bool, b=True, *, c=False, d: bool): ...", "boolean"),
    ],
)
def test_guard_bites(check, source, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path / "deepmd")
    bad = tmp_path / "deepmd" / "array_model" / "bad.py"
    bad.parent.mkdir(parents=True)
    bad.write_text(source)
    assert any(message in problem for problem in check(bad))


def test_planning_is_for_the_host_only(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path / "deepmd")
    (tmp_path / "descriptor.py").write_text("def fresh(x, *, xp):\n    return xp.max(xp.asarray(x), axis=None)")
    assert list(surface_problems(tmp_path / "descriptor.py")) == []


@pytest.mark.parametrize("module", ["deepmd", "deepmd.io", "deepmd.array_model.models"])
def test_import_loads_no_framework(module):
    """Start-up stays quick, and the package works with any one framework installed."""
    code = f"import sys, {module}; print(sorted({{'torch', 'tensorflow', 'ase', 'matplotlib'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert result.stdout.strip() == "[]"
