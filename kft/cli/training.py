"""`kft train`."""

import sys
from pathlib import Path

import click

from kft.cli.shared import (
    BACKEND,
    CONFIG,
    EXIT_STOPPED,
    JSON,
    SET,
    backend_of,
    override,
    print_json,
    say,
    seed_list,
)


@click.command(short_help="Train a model, or one for each seed or fold.")
@CONFIG
@BACKEND
@SET
@click.option(
    "--run", "run_path", type=click.Path(), help="Folder to make for the run.  [default: runs/DATA-TIME]"
)
@click.option(
    "--seeds", help="Train a run for each of these seeds, with commas between.  [folder: runs/CONFIG-seeds]"
)
@click.option(
    "--resume",
    "resume_path",
    metavar="RUN",
    type=click.Path(),
    help="Go on with this unfinished run, or runs; with --set train.epochs=N, train a finished one further as a new run.",
)
@click.option(
    "--dry-run", is_flag=True, help="Show settings, data and shapes, train one step, write nothing."
)
@JSON
def train(config, backend, overrides, run_path, seeds, resume_path, dry_run, as_json) -> None:
    """Train a model.

    CONFIG is a TOML file or the name of a built-in config; without it, bbc_news. Stopped by Ctrl-C
    or SIGTERM, the run is saved first and --resume goes on with it. With --seeds, and with
    `split.folds` and no `split.fold` in CONFIG, there are several runs in one folder; the same
    command also goes on with them.
    """
    from kft import config as configs

    if resume_path and (config or backend or seeds is not None or dry_run or (run_path and not overrides)):
        raise click.UsageError(
            "--resume takes its settings from the run: it goes with --json, and with --set train.epochs=N (and --run) "
            "for more epochs of a finished run"
        )
    if resume_path and overrides:
        from kft import runs

        settings = runs.more_epochs(resume_path, overrides)

        def go_on(training):
            return training.train(settings, run_path, training.Control(goes_on_from=resume_path))

        _result(_run_training(settings.backend, go_on), as_json)
        return
    if resume_path:
        _resume(resume_path, as_json)
        return
    numbers = () if seeds is None else seed_list(seeds)
    seed = numbers[0] if len(numbers) == 1 else list(numbers) or None
    override(overrides, seeds=("train.seed", seed))
    settings = configs.load(config, override(overrides, backend=("backend", backend)))
    if dry_run and (run_path or numbers):
        raise click.UsageError("--dry-run writes nothing: it goes without --run and --seeds")
    if dry_run:
        result = _run_training(settings.backend, lambda training: training.dry_run(settings))
        print_json(result, indent=2) if as_json else click.echo(_dry_run_text(settings, result))
        return
    folds = settings.split.folds and settings.split.fold is None
    if numbers or folds:
        kinds = [*(["folds"] if folds else []), *(["seeds"] if numbers else [])]
        folder = run_path or Path("runs", "-".join([Path(config or "bbc_news").stem, *kinds]))
        result = _run_training(settings.backend, lambda _: _ensemble().train(settings, folder, numbers))
        _results(result, as_json)
        return
    _result(_run_training(settings.backend, lambda training: training.train(settings, run_path)), as_json)


def _resume(path: str, as_json: bool) -> None:
    from kft import runs

    if runs.is_ensemble(path):
        _results(_run_training(backend_of(path), lambda _: _ensemble().resume(path)), as_json)
    else:
        _result(_run_training(backend_of(path), lambda training: training.resume(path)), as_json)


def _ensemble():
    from kft.studies import ensemble  # once the backend is chosen

    return ensemble


def _run_training(backend: str, work) -> dict:
    """Calls `work` with the module `train`; a stop by a signal ends the process with status 75."""
    from kft import backend as backends

    backends.select(backend)  # before `train` imports Keras
    backends.import_keras()
    from kft import train as training

    try:
        return work(training)
    except training.Stopped as stopped:
        say(str(stopped))
        sys.exit(EXIT_STOPPED)


def _result(result: dict, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    from kft import report, runs

    run = runs.RunDir(Path(result["run"]))
    click.echo(report.summary(result["metrics"], runs.read_json(run.details)))
    click.echo(f"run       {result['run']}")
    say(f"report    {run.report}")


def _results(content: dict, as_json: bool) -> None:
    """As `_result`, of several runs."""
    if as_json:
        print_json(content)
        return
    click.echo(_ensemble().text(content))
    click.echo(f"runs      {content['run']}")
    say(f"page      {content['run']}/ensemble.html")


def _dry_run_text(settings, report: dict) -> str:
    from kft import audit
    from kft import config as configs

    shape, count = report["batches"], report["parameters"]
    unit = "questions" if "questions" in shape else "examples"
    return "\n".join(
        [
            configs.dump(settings),
            audit.text(report["data"], settings.task),
            "",
            f"batches     steps an epoch: {shape['steps']:,}; a step: {shape[unit]} {unit} in {shape['rows']} × "
            f"{shape['length']} tokens, {shape['filled']:.1%} filled (padding would fill {shape['filled_if_padded']:.1%})",
            f"parameters  {count['total']:,}, of which {count['trainable']:,} are trained",
            f"memory      about {max(1, report['memory_bytes'] / 2**20):,.0f} MiB for training",
            f"first step  loss {report['first_loss']:.4f}, {report['first_step_seconds']:.1f} s with compilation",
        ]
    )
