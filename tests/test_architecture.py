"""The shape of the package: who may import whom, what importing costs, and what every public name owes its reader."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxrec

PACKAGE = Path(jaxrec.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
if not PAGE.exists():
    pytest.skip("the pages are not part of the wheel", allow_module_level=True)

# A room imports only from rooms in the layers above its own: not from below, nor from a neighbour in its layer.
# Inside a room that is a package, modules may import each other, except methods.
TABLE = re.findall(r"^\| \d+ \| (.*?) \|", PAGE.read_text("utf-8"), re.MULTILINE)
LAYERS = [re.findall(r"`(\w+)`", rooms) for rooms in TABLE]
LAYER_OF = {room: depth for depth, layer in enumerate(LAYERS) for room in layer}
# One file or folder a method, none of which imports another; what they share stands beside them.
SHARED = {
    "linear": (),
    "factorization": ("ridge", "weights", "conventions", "alternation"),
    "deep": ("network", "linear_bound"),
}
OPTIONAL = {"flax", "optax", "matplotlib", "pandas", "orbax", "rapidfuzz", "bm25s", "httpx", "tenacity"}
MAY_IMPORT_OPTIONAL = (
    *("jaxrec.deep.network", "jaxrec.deep", "jaxrec.experiments"),
    *("jaxrec.solvers.descent", "jaxrec.runtime.sharded"),
    "jaxrec.runtime.plots",  # matplotlib, inside functions
    "jaxrec.conversational",
    "jaxrec.evaluation.recommendations",  # pandas, inside a function
)
HEAVY = OPTIONAL | {"polars", "rich", "tyro"}
MAX_LINES = 400


def dotted(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {dotted(path) for path in MODULES}


def imported_modules(tree):
    """The dotted names a module imports, anywhere in it, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute in this package"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in NAMES else node.module), node.lineno


def breaches(importer, imported):
    """Why `importer` may not import `imported` (both dotted names within jaxrec), or None."""
    own, other = importer.split(".")[1], imported.split(".")[1:2]
    if not other:
        return "the package itself: import the module that defines the name"
    (other,) = other
    if own == other:
        mine, its = importer.split(".")[2:3], imported.split(".")[2:3]
        alike = mine == its or not (mine and its)
        wrong = own in SHARED and not alike and not {*mine, *its} & set(SHARED[own])
        return "a sibling; push what they share down, into closed_form or solvers" if wrong else None
    if LAYER_OF[other] >= LAYER_OF[own]:
        return f"layer {LAYER_OF[other] + 1}, itself being in layer {LAYER_OF[own] + 1}"
    return None


@pytest.fixture(params=MODULES, ids=dotted)
def module(request):
    return dotted(request.param), ast.parse(request.param.read_text("utf-8")), request.param


def test_every_room_has_a_layer():
    rooms = {name.split(".")[1] for name in NAMES if "." in name}
    unlisted = rooms - set(LAYER_OF)
    assert not unlisted, f"give {sorted(unlisted)} a layer in docs/architecture.md"


def test_imports_only_from_layers_above(module):
    name, tree, _ = module
    if name == "jaxrec":
        return  # the front door shows names of every layer
    wrong = [
        f"line {line}: {name} imports {other} ({reason})"
        for other, line in imported_modules(tree)
        if other.split(".")[0] == "jaxrec" and (reason := breaches(name, other))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("jaxrec.linear.ease", "jaxrec.closed_form.gram", True),
        ("jaxrec.linear", "jaxrec.linear.ease", True),
        ("jaxrec.data.readers", "jaxrec.data.interactions", True),
        ("jaxrec.linear.ease", "jaxrec.linear.edlae", False),
        ("jaxrec.linear.ease", "jaxrec.evaluation.report", False),
        ("jaxrec.factorization.ials.method", "jaxrec.factorization.ridge.rows", True),
        ("jaxrec.factorization.ials.method", "jaxrec.factorization.awmf.start", False),
        ("jaxrec.linear.ease", "jaxrec.factorization", False),
        ("jaxrec.closed_form.gram", "jaxrec.solvers.spd", True),
        ("jaxrec.solvers.spd", "jaxrec.closed_form.gram", False),
        ("jaxrec.models", "jaxrec", False),
    ],
)
def test_the_layer_rule_itself(importer, imported, allowed):
    assert (breaches(importer, imported) is None) == allowed


def test_global_jax_configuration_is_left_alone(module):
    name, tree, _ = module
    wrong = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and ast.unparse(node).startswith(("jax.config.", "config.update")))
        or (isinstance(node, ast.ImportFrom) and node.module == "jax" and any(a.name == "config" for a in node.names))
    ]
    assert not wrong, f"{name} touches JAX's global configuration in lines {wrong}: it belongs to the user"


def test_only_deep_imports_optional_libraries(module):
    name, tree, _ = module
    imported = {other.split(".")[0] for other, _ in imported_modules(tree)} & OPTIONAL
    assert not imported or name.startswith(MAY_IMPORT_OPTIONAL), f"{name} imports {sorted(imported)}"


def test_files_stay_short(module):
    name, _, path = module
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MAX_LINES, f"{name} has {lines} lines; split it by what a reader looks for"


def test_importing_jaxrec_is_light():
    code = "import sys, jaxrec; print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)
    assert not HEAVY & set(ran.stdout.split())


@pytest.mark.parametrize("name", sorted(jaxrec.__all__))
def test_public_names_are_documented(name):
    public = getattr(jaxrec, name)
    if not (inspect.isclass(public) or callable(public)):
        return
    text = inspect.getdoc(public) or ""
    # A dataclass without a docstring gets its signature as one.
    assert text and not text.startswith(f"{name}("), f"jaxrec.{name} has no docstring"
    if inspect.isclass(public):
        undocumented = [
            member
            for member, value in vars(public).items()
            if not member.startswith("_")
            and (inspect.isfunction(value) or isinstance(value, classmethod | property))
            and not inspect.getdoc(value)
        ]
        assert not undocumented, f"jaxrec.{name}: no docstring on {undocumented}"


@pytest.mark.parametrize("name", sorted(NAMES - {"jaxrec.__main__"}))
def test_all_lists_what_is_there(name):
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert len(listed) == len(set(listed))
    missing = [entry for entry in listed if not hasattr(module, entry)]
    assert not missing, f"{name}.__all__ names {missing}, which it does not define"
