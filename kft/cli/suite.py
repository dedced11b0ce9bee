"""`kft suite`."""

import sys

import click

from kft.cli.shared import (
    BACKEND,
    EXIT_MISTAKE,
    EXIT_STOPPED,
    JSON,
    SET,
    override,
    print_json,
    say,
    seed_list,
)


@click.command(short_help="Train and score GLUE or SuperGLUE.")
@click.argument("suite", type=click.Choice(["glue", "superglue"]))
@click.option("--tasks", help="Tasks with commas between, such as rte,mrpc.  [default: all]")
@click.option("--seeds", default="1,2,3", show_default=True, help="Seeds with commas between.")
@click.option("--preset", help="Model to start from, as model.preset.")
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False),
    help="Archive's files, or prepared TFDS data sets.",
)
@click.option(
    "--from-mnli", is_flag=True, help="Start RTE, MRPC and STS-B from the MNLI model of the same seed."
)
@BACKEND
@SET
@click.option("--run", "folder", type=click.Path(), help="Folder of the suite.  [default: runs/SUITE]")
@click.option(
    "--check", "checked", metavar="FILE", help="Only check this submission (zip, or one of its files)."
)
@JSON
def suite(
    suite, tasks, seeds, preset, data_dir, from_mnli, backend, overrides, folder, checked, as_json
) -> None:
    """Train and score the tasks of SUITE over seeds, by the benchmark's own metrics.

    What is finished is not trained again when the command is repeated; a task that fails does not
    stop the others. Writes the table, a page and a zip for the benchmark's server.
    """
    from kft import backend as backends
    from kft import config as configs

    numbers = seed_list(seeds)
    override(overrides, preset=("model.preset", preset), data_dir=("data.data_dir", data_dir))
    overrides = override(overrides, backend=("backend", backend))
    from kft.studies import suites

    if checked:
        names = suites.check(suite, checked)
        print_json({"files": names}) if as_json else click.echo(f"right: {', '.join(names)}")
        return
    wanted = [name.strip() for name in tasks.split(",") if name.strip()] if tasks else None
    backends.select(configs.load(None, [o for o in overrides if o.startswith("backend=")]).backend)
    from kft import train
    from kft.studies.suites import running

    try:
        every = (*running.shared(preset, data_dir), *overrides)
        content = running.run(suite, wanted, numbers, every, folder, from_mnli)
    except train.Stopped as stopped:
        say(f"{stopped.run.path}: stopped and saved; the same command goes on")
        sys.exit(EXIT_STOPPED)
    print_json(content) if as_json else click.echo(suites.text(content))
    say(f"page      {content['folder']}/suite.html")
    if content["submission"]["file"]:
        missing = content["submission"]["missing"]
        lacks = f" (the server also wants {', '.join(missing)})" if missing else ""
        say(f"answers   {content['folder']}/{content['submission']['file']}{lacks}")
        for problem in content["submission"]["refused"]:
            say(f"          the server would refuse {problem}")
    if content["failed"]:
        sys.exit(EXIT_MISTAKE)
