"""`kft init`, `kft data`, `kft config` and `kft configs`: what would be trained on, and how."""

import click

from kft.cli.shared import CONFIG, JSON, SET, print_file, print_json


@click.command(short_help="Show what the data of a config hold.")
@CONFIG
@SET
@click.option(
    "--run",
    "run_path",
    type=click.Path(),
    help="A finished run on this data: also lists likely label errors.",
)
@JSON
def data(config, overrides, run_path, as_json) -> None:
    """Show what is in the data of CONFIG: counts, drops, labels, duplicates, leaks, lengths."""
    from kft import audit
    from kft import config as configs

    settings = configs.load(config, overrides)
    account = audit.audit(settings, run_path)
    print_json(account, indent=2) if as_json else click.echo(audit.text(account, settings.task))


@click.command(short_help="Look at data and write a config that trains.")
@click.argument("data")
@click.option("--task", help="What is to be predicted, where you know it.")
@click.option("--output", type=click.Path(dir_okay=False), help="File to write.  [default: DATA.toml, here]")
@click.option("--data-dir", type=click.Path(), help="Folder in which TFDS finds its prepared data sets.")
@JSON
def init(data, task, output, data_dir, as_json) -> None:
    """Look at DATA and write a config that trains.

    DATA is a CSV, TSV, JSON, JSONL or Parquet file, a folder with one sub-folder for each class, a
    folder that holds such files, or a name of TensorFlow Datasets. What is text, label, task and
    split is taken from the data; each line of the config says why, and what else could be meant.
    """
    from kft import guess

    result = guess.init(data, task, output, data_dir)
    print_json(result, indent=2) if as_json else click.echo(guess.text(result))


@click.command("config", short_help="Show the settings of a config, or all there are.")
@CONFIG
@SET
@click.option("--schema", is_flag=True, help="Every setting with its type, default and meaning.")
@JSON
def show_config(config, overrides, schema, as_json) -> None:
    """Show the resolved settings of CONFIG, or with --schema every setting there is."""
    from kft import config as configs

    if schema and as_json:
        print_json(configs.schema(), indent=2)
    elif schema:
        click.echo(_settings_text(configs.settings_table()))
    else:
        settings = configs.load(config, overrides)
        print_json(settings.model_dump(), indent=2) if as_json else print_file(configs.dump(settings))


@click.command("configs", short_help="List the built-in configs, or print one.")
@click.argument("name", required=False)
def list_configs(name) -> None:
    """List the built-in configs, or print the one called NAME."""
    from kft import config as configs

    if name:
        print_file(configs.find(name).read_text("utf-8"))
        return
    for known in configs.builtin():
        click.echo(known)


def _settings_text(rows: list[tuple[str, str, str, str]]) -> str:
    name_width, default_width = (max(len(row[i]) for row in rows) for i in (0, 2))
    return "\n".join(
        f"{name:{name_width}}  {default:{default_width}}  {meaning} ({kind})"
        for name, kind, default, meaning in rows
    )
