"""The rules of the house: import order, first lines, plain names, few arguments."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import assert_not_imported

from kft.tasks import TASKS

PACKAGE = Path(__file__).parents[1] / "kft"
# The way of the data: what stands in a line may import from the lines above it.
ORDER = (
    "errors progress later metrics tasks config backend runs data guess text models batches evaluate report audit train export serve "
    "studies cli"
).split()


def entries(folder: Path) -> dict[str, list[Path]]:
    """The entries of a folder that Python imports: a name and its files."""
    files = {file.stem: [file] for file in folder.glob("*.py")}
    packages = (p for p in folder.iterdir() if any(p.rglob("*.py")) and (p / "__init__.py").exists())
    return files | {p.name: sorted(p.rglob("*.py")) for p in packages}


FOLDERS = sorted({file.parent for file in PACKAGE.rglob("__init__.py")})


def imports(file: Path) -> set[str]:
    """Dotted names of what a file imports of kft, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kft":
            names |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            names |= {name.name for name in node.names if name.name.startswith("kft.")}
    return names


def imported_entries(folder: Path) -> dict[str, set[str]]:
    """For each entry of a folder the others that it imports; `__init__` is the folder."""
    here = ".".join(folder.relative_to(PACKAGE.parent).parts)
    known = entries(folder)
    graph = {}
    for name, files in known.items():
        imported = set()
        for dotted in set().union(*map(imports, files)):
            if dotted.startswith(here + "."):
                first = dotted.removeprefix(here + ".").split(".")[0]
                imported.add(first if first in known else "__init__")
        graph[name] = imported - {name}
    return graph


def test_every_entry_has_its_place():
    assert set(entries(PACKAGE)) - {"__init__"} == set(ORDER)


def test_entries_import_only_from_entries_above_them():
    graph = imported_entries(PACKAGE)
    for place, name in enumerate(ORDER):
        below = graph[name] - set(ORDER[:place]) - {"__init__"}
        assert not below, f"{name} imports {below}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(PACKAGE.parent).as_posix())
def test_the_files_of_a_folder_have_an_order(folder):
    """No circle among them; `__init__` comes last, since it shows what the others hold."""
    graph = imported_entries(folder)
    if folder == PACKAGE:  # it holds the version alone, and imports nothing
        assert not graph.pop("__init__")
        graph = {name: imported - {"__init__"} for name, imported in graph.items()}
    while graph:
        free = [name for name, imported in graph.items() if not imported & set(graph)]
        assert free, f"a circle among {sorted(graph)}"
        graph = {name: imported for name, imported in graph.items() if name not in free}


def test_each_file_says_its_job_in_its_first_line():
    for file in PACKAGE.rglob("*.py"):
        document = ast.get_docstring(ast.parse(file.read_text("utf-8")))
        assert document, file
        assert "\n" not in document.split("\n\n")[0], file


# Words that say nothing of what they name: a field's own word does (report, content, path, index).
# `at` is also the name of an attribute, such as numpy's `ufunc.at` and JAX's `array.at`: those are
# read, never set.
VAGUE = ("told", "made", "held", "found", "there", "shown", "at")


def named_by(node: ast.AST) -> list[str]:
    """The names that a piece of code gives to something."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.arg | ast.keyword):
        return [node.arg]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Attribute):
        return [node.attr] if isinstance(node.ctx, ast.Store) else []
    if isinstance(node, ast.alias):
        return [node.asname or node.name]
    return node.names if isinstance(node, ast.Global | ast.Nonlocal) else []


@pytest.mark.parametrize("folder", [PACKAGE, PACKAGE.parent / "tools"], ids=lambda folder: folder.name)
def test_names_say_what_they_hold(folder):
    vague = {
        f"{file.relative_to(PACKAGE.parent).as_posix()}:{node.lineno} {name}"
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        for name in named_by(node)
        if name in VAGUE
    }
    assert not vague


def test_vague_names_are_seen():
    code = "def told(made, *, found=1):\n    held.there = at\n    call(shown=1); np.add.at(x, y)"
    names = [name for node in ast.walk(ast.parse(code)) for name in named_by(node)]
    assert sorted(name for name in names if name in VAGUE) == sorted(VAGUE)


def arguments(function: ast.FunctionDef) -> list[str]:
    """The names that a caller passes."""
    signature = function.args
    names = [name.arg for name in (*signature.posonlyargs, *signature.args, *signature.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def is_command(function: ast.FunctionDef) -> bool:
    """Whether Click passes the arguments, one for each option."""
    return any("command" in ast.unparse(decorator) for decorator in function.decorator_list)


def test_no_function_takes_more_than_seven_arguments():
    long = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and len(arguments(node)) > 7 and not is_command(node):
                long.add(f"{file.relative_to(PACKAGE.parent).as_posix()} {node.name}")
    assert not long


def test_help_and_config_mistakes_need_neither_keras_nor_polars():
    code = (
        "from click.testing import CliRunner; from kft.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(main, ['train', '--set', 'train.epoch=3']).exit_code == 1"
    )
    assert_not_imported(code, "keras", "jax", "tensorflow", "torch", "polars", "sklearn")


def test_a_command_begins_to_train_without_what_it_needs_at_the_end():
    code = "from kft import backend; backend.import_keras(); import kft.train; import keras"
    assert_not_imported(code, "sklearn", "scipy.stats", "matplotlib", "pandas", "joblib", "keras_hub")


def test_packages_that_keras_does_not_see_are_there_for_others():
    code = (
        "from kft import backend; backend.import_keras()\n"
        "from kft import metrics; import matplotlib, numpy\n"
        "assert metrics.METRICS['mean_squared_error'].compute(numpy.zeros(2), numpy.ones(2)) == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_task_is_named_outside_its_file():
    """What differs between tasks is in `kft/tasks`: a name elsewhere would be a case of one."""
    for file in sorted(PACKAGE.rglob("*")):
        if "tasks" in file.relative_to(PACKAGE).parts or file.suffix not in (".py", ".j2", ".html"):
            continue
        content = file.read_text("utf-8")
        pieces = _strings(ast.parse(content)) if file.suffix == ".py" else [content]
        for name in TASKS:
            cases = [
                piece for piece in pieces if piece == name or f'"{name}"' in piece or f"'{name}'" in piece
            ]
            assert not cases, (file, name)


def _strings(tree: ast.AST) -> list[str]:
    """The strings of a module, docstrings aside."""
    blocks = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, blocks) and node.body and isinstance(node.body[0], ast.Expr)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [n.value for n in constants if isinstance(n.value, str) and id(n) not in documents | parts]
