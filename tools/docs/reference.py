"""A hook of MkDocs: builds the reference pages from the tables in the code, never stale."""

import click
from mkdocs.structure.files import File, Files

from kft.cli import main
from kft.config import settings_table
from kft.export import FIELDS as EXPORT
from kft.report.compare import FIELDS as COMPARISON
from kft.runs import FIELDS as RUN
from kft.studies.ensemble.results import FIELDS as ENSEMBLE
from kft.studies.suites.summary import FIELDS as SUITE
from kft.studies.tune.results import FIELDS as STUDY


def on_files(files: Files, config) -> Files:
    """Adds the generated pages to those that MkDocs read."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def commands() -> str:
    """Every command with its help and options, as Click knows them."""
    context = click.Context(main, info_name="kft")
    lines = ["# Commands", "", "Made from `kft --help`.", ""]
    for name in main.list_commands(context):
        command = main.commands[name]
        inner = click.Context(command, info_name=f"kft {name}", parent=None)
        usage = " ".join([f"kft {name}", *command.collect_usage_pieces(inner)])
        lines += [f"## kft {name}", "", *_paragraphs(command.help or ""), f"    {usage}", ""]
        rows = [p.get_help_record(inner) for p in command.params if isinstance(p, click.Option)]
        lines += _table(("option", "meaning"), [(f"`{r[0]}`", r[1]) for r in rows if r])
    return "\n".join(lines)


def settings() -> str:
    """Every setting with its type, default and meaning, a table for each section."""
    sections: dict[str, list[tuple[str, ...]]] = {}
    for name, kind, default, meaning in settings_table():
        section = name.partition(".")[0] if "." in name else "the whole run"
        sections.setdefault(section, []).append((f"`{name}`", kind, f"`{default}`", meaning))
    lines = ["# Settings", "", "Made from the tables in the code; `kft config --schema` prints the same.", ""]
    for section, rows in sections.items():
        lines += [f"## {section}", "", *_table(("setting", "type", "default", "meaning"), rows)]
    return "\n".join(lines)


def fields() -> str:
    """Every field of every JSON file that kft writes."""
    lines = [
        "# Files and fields",
        "",
        "`*` stands for a name that the data give, `[]` for the items of a list.",
        "",
    ]
    files = {
        **RUN,
        **_by_file(ENSEMBLE, "ensemble.json"),
        **_by_file(STUDY, "study.json"),
        **_by_file(SUITE, "suite.json"),
        **_by_file(COMPARISON, "`kft compare --json`"),
        **_by_file(EXPORT, "export.json"),
    }
    for name, table in files.items():
        lines += [
            f"## {name}",
            "",
            *_table(("field", "meaning"), [(f"`{f}`", meaning) for f, meaning in table.items()]),
        ]
    return "\n".join(lines)


def _by_file(table: dict, name: str) -> dict[str, dict[str, str]]:
    """Some tables hold several files, some the fields of one."""
    return table if all(isinstance(value, dict) for value in table.values()) else {name: table}


def _paragraphs(text: str) -> list[str]:
    return [line for part in text.replace("\b", "").split("\n\n") for line in (" ".join(part.split()), "")]


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [header, ("---",) * len(header), *rows]
    lines = ["| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in row) + " |" for row in cells]
    return [*lines, ""]


PAGES = {
    "reference/commands.md": commands,
    "reference/settings.md": settings,
    "reference/files.md": fields,
}
