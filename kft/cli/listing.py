"""`kft runs` and `kft completion`: what exists, and how the shell knows it."""

import json

import click

from kft.cli.shared import JSON


@click.command("runs", short_help="List the runs of a folder with their scores.")
@click.argument("folder", default="runs")
@click.option("--clean", is_flag=True, help="Remove the checkpoints that finished runs do not need any more.")
@click.option("--yes", is_flag=True, help="With --clean: ask nothing.")
@JSON
def list_runs(folder, clean, yes, as_json) -> None:
    """List the runs in FOLDER and below it, with data, task, state, first score and size."""
    from kft.runs import listing

    if yes and not clean:
        raise click.UsageError("--yes goes with --clean")
    rows = listing.list_runs(folder)
    if not clean:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False) if as_json else _table(rows))
        return
    spare = sum(row["spare_bytes"] for row in rows)
    count = sum(bool(row["spare_bytes"]) for row in rows)
    click.echo(f"{_megabytes(spare)} of checkpoints in {count} finished runs", err=True)
    if spare and not yes:
        click.confirm("remove them?", abort=True, err=True)
    freed = listing.clean(rows)
    click.echo(json.dumps({"freed_bytes": freed}) if as_json else f"freed {_megabytes(freed)}")


def _table(rows: list[dict]) -> str:
    if not rows:
        return "no runs"
    lines = [("run", "data", "task", "started", "state", "score", "size")]
    for row in rows:
        name, value = next(iter(row["metrics"].items()), (None, None))
        score = "-" if value is None else f"{row['split']} {name} {value:.4f}"
        lines.append(
            (row["run"], row["data"] or "-", row["task"] or "-", row["started"], row["state"], score, _megabytes(row["bytes"]))
        )  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in text)


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


@click.command(short_help="Print what makes a shell complete kft's commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell) -> None:
    """Print what makes SHELL complete kft's commands, options, built-in configs and settings.

    \b
    bash: eval "$(kft completion bash)"           in ~/.bashrc
    zsh:  eval "$(kft completion zsh)"            in ~/.zshrc
    fish: kft completion fish | source            in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root()
    name = root.info_name if root.info_name == "kft" else "kft"
    click.echo(get_completion_class(shell)(root.command, {}, name, "_KFT_COMPLETE").source())
