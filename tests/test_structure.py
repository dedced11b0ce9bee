"""The rules of the house: one import order, and only `cli` imports inside functions for speed of start."""

import ast
from pathlib import Path

from conftest import assert_not_imported

ORDER = (
    "errors config backend rundir sources splits presets metrics answers tokens audit batches tasks encoder controls models "
    "optax_bridge optim memory evaluate report compare progress checkpoints recorder train ensemble export serve tune suites cli"
).split()
PACKAGE = Path(__file__).parents[1] / "kft"


def modules() -> dict[str, list[Path]]:
    """Every module of kft and its files: one, or all of a package."""
    found = {f.stem: [f] for f in PACKAGE.glob("*.py") if f.stem != "__init__"}
    return found | {f.parent.name: sorted(f.parent.glob("*.py")) for f in PACKAGE.glob("*/__init__.py")}


def imported_modules(name: str) -> set[str]:
    """Names of the other kft modules that a module imports, anywhere in it."""
    found = set()
    trees = [ast.parse(file.read_text("utf-8")) for file in modules()[name]]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and node.module == "kft":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kft."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("kft.")}
    return (found & set(modules())) - {name}


def test_every_module_has_its_place():
    assert set(modules()) == set(ORDER)


def test_modules_import_only_from_modules_above_them():
    for place, name in enumerate(ORDER):
        below = imported_modules(name) - set(ORDER[:place])
        assert not below, f"{name} imports {below}"


def test_each_file_says_its_job_in_its_first_line():
    for file in PACKAGE.rglob("*.py"):
        assert file.read_text("utf-8").startswith('"""'), file


def test_help_and_config_mistakes_need_neither_keras_nor_polars():
    code = (
        "from click.testing import CliRunner; from kft.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(main, ['train', '--set', 'train.epoch=3']).exit_code == 1"
    )
    assert_not_imported(code, "keras", "jax", "tensorflow", "torch", "polars", "sklearn")
