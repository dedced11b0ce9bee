"""The documentation: every command of a task's page runs, and what the pages name exists."""

import csv
import io
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from kft import config as configs
from kft.cli import main

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "tools" / "docs" / "pages"
TASK_PAGES = sorted((PAGES / "tasks").glob("*.md"))
BLOCK = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```$', re.M | re.S)
COPIES = 16  # of the few rows that a page shows: enough to split and to train on


def prose() -> list[Path]:
    return [ROOT / "README.md", *sorted(PAGES.rglob("*.md"))]


def blocks(page: Path) -> dict[str, str]:
    """The files that a page shows, and under "commands" what it runs."""
    return {name: text for _, name, text in BLOCK.findall(page.read_text("utf-8"))}


def repeated(table: str) -> str:
    """A page's rows many times over, each copy with texts and questions of its own."""
    header, *rows = csv.reader(io.StringIO(table))
    own = {"question": "{1}-{0}", "text": "{0} {2}", "premise": "{0} {2}"}
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(header)
    for copy in range(COPIES):
        words = " ".join(word for bit, word in enumerate(("a", "the", "film", "plot")) if copy >> bit & 1)
        writer.writerows(
            [
                own.get(name, "{0}").format(cell, copy, words).strip()
                for name, cell in zip(header, row, strict=True)
            ]
            for row in rows
        )
    return written.getvalue()


@pytest.mark.parametrize("page", TASK_PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_task_run(page, tiny_preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in blocks(page).items():
        if name != "commands":
            Path(name).write_text(repeated(text) if name.endswith(".csv") else text, "utf-8")
    tiny = ["--set", f"model.preset={tiny_preset}", "--set", "model.max_length=16"]
    commands = [shlex.split(line, comments=True) for line in blocks(page)["commands"].splitlines()]
    assert any(command[1] == "train" for command in commands)
    for program, *arguments in commands:
        assert program == "kft"
        result = CliRunner().invoke(main, arguments + (tiny if arguments[0] in ("train", "data") else []))
        assert result.exit_code == 0, (arguments, result.output, result.exception)


@pytest.mark.parametrize("page", prose(), ids=lambda page: page.stem)
def test_commands_options_and_settings_that_are_named_exist(page):
    text = page.read_text("utf-8")
    for line in re.findall(r"(?:^ {4}|`)(kft [^`\n#]*)", text, re.M):
        _, *words = line.split()
        command = main.commands.get(words[0]) if words and not words[0].startswith(("-", "[")) else None
        assert command or not words or words[0].startswith(("-", "[")), line
        options = {name for p in (command.params if command else []) for name in p.opts} | {
            "--help",
            "--version",
        }
        for option in re.findall(r"--[a-z][a-z-]*", line):
            assert option in options, line
    for name in re.findall(r"`((?:data|split|clean|model|train|tune)\.(?!json)[a-z_]+)(?![\w.])", text):
        assert configs.setting_types(name) is not None, name


def test_every_command_and_link_stands_in_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in main.commands:
        assert f"`kft {name}" in readme, name
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_documentation_builds(tmp_path):
    mkdocs = pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    assert mkdocs
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "tools" / "docs" / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    settings = (tmp_path / "site" / "reference" / "settings.html").read_text("utf-8")
    for name, *_ in configs.settings_table():
        assert name in settings
