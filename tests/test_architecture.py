"""The house rules as tests: layers, sizes, signatures, docstrings, laziness."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pytest_collabcode

PACKAGE = Path(pytest_collabcode.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = {
    **dict.fromkeys(["records", "errors"], 0),
    **dict.fromkeys(["digests", "intervals", "licences", "lines", "machine", "minhash"], 1),
    **dict.fromkeys(
        ["settings", "options", "urls", "adapters", "store", "journal", "weights", "manifest", "checkpoint"], 2
    ),
    **dict.fromkeys(["progress", "drawing"], 2),
    **dict.fromkeys(["corpus", "execution", "metrics", "clones", "memorization", "throughput", "gate", "report"], 2),
    **dict.fromkeys(["tasks", "models"], 3),
    **dict.fromkeys(["training", "generation", "backends"], 4),
    **dict.fromkeys(
        [
            "session",
            "workbench",
            "subjects",
            "material",
            "trainings",
            "opening",
            "executions",
            "pipeline",
            "answers",
            "leaks",
            "measures",
            "preparation",
            "workers",
            "timing",
            "timed",
            "fetching",
            "doctor",
        ],
        5,
    ),
    **dict.fromkeys(["hookspecs", "gatekeeper", "plugin", "cli", "commands", "__main__"], 6),
}
# A report is verdicts written out; memorization is what found clones mean; the command line calls the commands.
MAY_IMPORT_ASIDE = {("report", "gate"), ("memorization", "clones"), ("cli", "commands")}
HEAVY = ("torch", "transformers", "flwr", "datasketch", "numpy", "scipy", "tokenizers", "safetensors", "sacrebleu")
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS, MAX_MEDIAN = 300, 50, 6, 12


def room(file):
    relative = file.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def name(file):
    return str(file.relative_to(PACKAGE))


def functions():
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield file, node


def imported(file):
    """Yield (imported room, whether at module level or only for types)."""
    for node in ast.walk(ast.parse(file.read_text())):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            parts = module.split(".")
            if parts[0] == "pytest_collabcode" and len(parts) > 1:
                yield parts[1]


def test_every_room_has_a_layer():
    rooms = {room(file) for file in FILES} - {"__init__"}
    assert rooms - set(LAYERS) == set()
    assert set(LAYERS) - rooms == set(), "a room of the plan is gone"


@pytest.mark.parametrize("file", FILES, ids=name)
def test_imports_go_down(file):
    own = room(file)
    if own == "__init__":
        return
    for other in imported(file):
        # Files at the top of a layer (store, checkpoint, session, ...) are no rooms: they may know each other.
        beside = LAYERS[own] == LAYERS[other] and (PACKAGE / f"{other}.py").exists()
        assert LAYERS[other] < LAYERS[own] or other == own or beside or (own, other) in MAY_IMPORT_ASIDE, (
            f"{name(file)} imports {other}"
        )


@pytest.mark.parametrize("file", FILES, ids=name)
def test_files_are_short_and_say_what_they_are(file):
    text = file.read_text()
    assert text.count("\n") <= MAX_FILE_LINES
    assert ast.get_docstring(ast.parse(text)), "no module docstring"


def test_every_public_function_shows_an_example():
    exempt = {"plugin.py", "hookspecs.py", "gatekeeper.py"}  # hooks and fixtures: test_readme.py runs their examples
    silent = [
        (name(file), node.name)
        for file in FILES
        if name(file) not in exempt
        for node in ast.parse(file.read_text()).body
        if is_public(node) and ">>>" not in "".join(ast.get_docstring(n) or "" for n in [node, *methods(node)])
    ]
    assert silent == []


def is_public(node):
    """Whether there is something to show: a function that is no process's entry, a class that does something."""
    if isinstance(node, ast.ClassDef):
        protocol = "Protocol" in [ast.unparse(base) for base in node.bases]
        return not node.name.startswith("_") and not protocol and methods(node) != []
    return isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.name != "main"


def methods(node):
    """Return a class's public methods and properties; a function has none."""
    inner = node.body if isinstance(node, ast.ClassDef) else []
    return [n for n in inner if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


def test_functions_are_short():
    lengths = [(node.end_lineno - node.lineno + 1, name(file), node.name) for file, node in functions()]
    bodies = sorted(length for length, *_ in lengths)
    # The docstring is documentation, not code.
    long = [(file, node.name) for file, node in functions() if code_lines(node) > MAX_FUNCTION_LINES]
    assert long == []
    assert sorted(code_lines(node) for _, node in functions())[len(bodies) // 2] <= MAX_MEDIAN


def code_lines(node):
    has_docstring = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
    docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if has_docstring else 0
    return node.end_lineno - node.lineno + 1 - docstring


def test_functions_take_few_positional_parameters():
    many = [
        (name(file), node.name)
        for file, node in functions()
        if len([a for a in node.args.args if a.arg not in ("self", "cls")]) > MAX_PARAMETERS
    ]
    assert many == []


def test_only_the_session_and_the_command_line_import_inside_functions():
    lazy = {
        name(file)
        for file, node in functions()
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    }
    assert lazy <= {"session.py", "cli.py"}


def test_nothing_unsafe_is_loaded():
    forbidden = ("trust_remote_code=True", "weights_only=False", "pickle.load")
    assert [(name(file), word) for file in FILES for word in forbidden if word in file.read_text()] == []


def test_keywords_are_not_passed_through():
    # A generated program calls with what it likes.
    allowed = {"execution/proxy.py"}
    assert {name(file) for file, node in functions() if node.args.kwarg} <= allowed


@pytest.mark.parametrize("arguments", [["--collect-only", "-q"], ["-q"]])
def test_an_unrelated_project_pays_nothing(tmp_path, arguments):
    (tmp_path / "test_x.py").write_text(
        f"import sys\ndef test_x():\n    assert not [m for m in {HEAVY!r} if m in sys.modules]\n"
    )
    (tmp_path / "conftest.py").write_text(
        "import sys\n"
        "def pytest_unconfigure():\n"
        f"    loaded = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "    assert not loaded, loaded\n"
        "    assert 'pytest_collabcode.plugin' in sys.modules\n"
    )
    command = [sys.executable, "-m", "pytest", *arguments, "-p", "no:cacheprovider", "-p", "no:benchmark"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "collabcode" not in run.stdout + run.stderr
    assert {p.name for p in tmp_path.iterdir()} <= {"test_x.py", "conftest.py", "__pycache__"}


def test_every_room_is_shipped():
    listed = set(tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    rooms = {".".join(f.parent.relative_to(PACKAGE.parent).parts) for f in PACKAGE.rglob("__init__.py")}
    assert rooms - listed == set()
