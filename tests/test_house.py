"""The house: what may import what, sizes, docstrings, a light front door, and nothing that runs foreign code."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import hfcompress

ROOT = Path(hfcompress.__file__).parent
FAMILIES = {"distillation", "pruning", "factorization", "quantization", "clustering"}
LAYERS = [  # from the top: a module may import from its own layer and from those below
    {"cli", "__main__"},
    {"pipeline"},
    {*FAMILIES, "search", "export", "hub"},
    {"training", "measure"},
    {"modeling", "tasks", "data", "reading", "context", "calibration", "allocation", "labels", "label_kinds"},
    {"registry", "errors", "config", "sources", "folders", "processes", "environment", "memory", "naming", "_version"},
]
HEIGHT = {part: -index for index, layer in enumerate(LAYERS) for part in layer}
FRONT_DOOR = "__init__"

FILES = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def part_of(path):
    """The package, or the module beside the packages, in which a file lies."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported_parts(tree, package=()):
    """Parts of hfcompress that a module imports, also inside functions and for type checking only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["hfcompress", *package][: len(package) + 2 - node.level] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "hfcompress" and rest.split(".")[0] in HEIGHT:
                yield rest.split(".")[0]


def parts_imported_by(path):
    return set(imported_parts(TREES[path], path.relative_to(ROOT).parts[:-1])) - {part_of(path)}


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def test_import_reading_sees_every_form():
    source = """
import hfcompress.cli.main as m
from hfcompress import data, __version__
from hfcompress.training.trainer import CompressionTrainer
if TYPE_CHECKING:
    from hfcompress.measure import size
def f():
    from hfcompress.export.native import export
    from ..labels import encode_labels
    from . import sibling
import torch.data
"""
    assert set(imported_parts(ast.parse(source), ("pruning",))) == {
        *("cli", "data", "training", "measure", "export", "labels", "pruning"),
    }


def test_every_part_has_its_place_in_the_layers():
    assert {part_of(path) for path in FILES} - {FRONT_DOOR} <= set(HEIGHT)


@each_file
def test_no_module_imports_from_a_higher_layer(path):
    part = part_of(path)
    if part != FRONT_DOOR:
        assert {other for other in parts_imported_by(path) if HEIGHT[other] > HEIGHT[part]} == set()


@each_file
def test_no_method_family_imports_another(path):
    if part_of(path) in FAMILIES:
        assert parts_imported_by(path) & FAMILIES == set()


def test_no_two_parts_import_each_other():
    graph = {}
    for path in FILES:
        if part_of(path) != FRONT_DOOR:
            graph.setdefault(part_of(path), set()).update(parts_imported_by(path))
    assert list(graphlib.TopologicalSorter(graph).static_order())


LIGHT = """
import sys
import hfcompress
dir(hfcompress), hfcompress.__version__, hfcompress.HfcompressError
heavy = {"torch", "transformers", "datasets", "numpy", "sklearn", "pydantic"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""


def test_importing_the_package_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists():
    assert all(getattr(hfcompress, name) is not None for name in hfcompress.__all__)
    assert sorted(hfcompress.__all__) == hfcompress.__all__
    assert dir(hfcompress) == hfcompress.__all__
    with pytest.raises(AttributeError, match="module 'hfcompress' has no attribute 'nothing'"):
        _ = hfcompress.nothing


@each_file
def test_every_file_says_what_it_is_for_in_its_first_line(path):
    docstring = ast.get_docstring(TREES[path])
    assert docstring
    assert path.read_text(encoding="utf-8").startswith(('"""', 'r"""'))
    assert docstring.splitlines()[0].endswith(".")


@each_file
def test_files_and_functions_stay_short(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 300
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions(TREES[path])}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def runs_foreign_code(node):
    """Say whether a syntax node unpickles, or lets a model repository's own code run."""
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib"} for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        module = (node.module or "").split(".")[0]
        return module in {"pickle", "cloudpickle", "dill", "joblib"} or (
            module == "torch" and any(alias.name == "load" for alias in node.names)
        )
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in {"torch.load", "eval", "exec", "yaml.load", "yaml.unsafe_load"}
    if isinstance(node, ast.keyword):
        return node.arg == "trust_remote_code" and ast.unparse(node.value) == "True"
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return any(key and ast.unparse(key) == "'trust_remote_code'" and ast.unparse(v) == "True" for key, v in pairs)
    return False


@pytest.mark.parametrize(
    ("source", "runs"),
    [
        ("import pickle", True),
        ("from joblib import load", True),
        ("from torch import load", True),
        ("torch.load(path)", True),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", True),
        ("options = {'trust_remote_code': True}", True),
        ("exec(code)", True),
        ("model.eval()", False),
        ("AutoModel.from_pretrained(x, trust_remote_code=False)", False),
        ("yaml.safe_load(text)", False),
    ],
)
def test_foreign_code_is_recognised(source, runs):
    assert any(map(runs_foreign_code, ast.walk(ast.parse(source)))) is runs


@each_file
def test_nothing_unpickles_or_runs_foreign_code(path):
    assert [ast.unparse(node) for node in ast.walk(TREES[path]) if runs_foreign_code(node)] == []
