"""`kft tune`."""

import sys
import threading
from pathlib import Path

import click

from kft.cli.shared import BACKEND, CONFIG, EXIT_STOPPED, JSON, SET, override, print_json, say


@click.command(short_help="Search for the best settings.")
@CONFIG
@click.option("--method", type=click.Choice(["grid", "random", "tpe"]), help="As tune.method.")
@click.option("--trials", type=click.IntRange(min=1), help="Trials of random and tpe, as tune.trials.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that train, as tune.workers.")
@click.option(
    "--launcher", type=click.Choice(["process", "ray"]), help="Where the workers run, as tune.launcher."
)
@click.option(
    "--timeout-minutes", type=click.FloatRange(min=0, min_open=True), help="As tune.timeout_minutes."
)
@click.option(
    "--storage", metavar="URL", help="Database of the trials.  [default: SQLite in the study's folder]"
)
@click.option("--run", "folder", type=click.Path(), help="Folder of the study.  [default: runs/CONFIG-tune]")
@BACKEND
@SET
@JSON
def tune(
    config, method, trials, workers, launcher, timeout_minutes, storage, folder, backend, overrides, as_json
) -> None:
    """Search for the best settings, over the [tune] table of CONFIG.

    The same command goes on with a study that was stopped, and may run several times at once: each
    trial is trained once. Test data are scored for the winner only. Without CONFIG, --run goes on
    with the study in that folder.
    """
    from kft import backend as backends
    from kft import config as configs
    from kft.progress import note, stop_signals
    from kft.studies.tune import space

    given = {
        "method": method,
        "trials": trials,
        "workers": workers,
        "launcher": launcher,
        "timeout_minutes": timeout_minutes,
    }
    options = {name: (f"tune.{name}", value) for name, value in given.items()}
    overrides = override(overrides, **options, backend=("backend", backend))
    study = Path(folder or Path("runs") / f"{Path(config or 'bbc_news').stem}-tune")
    known = config is None and (study / "study.toml").is_file()
    settings = configs.load(study / "study.toml" if known else config, overrides)
    if trials and settings.tune.method == "grid":
        raise click.UsageError("--trials goes with random and tpe: a grid tries every combination")
    planned = len(space.points(settings, space.read(settings)))
    backends.need("optuna", "tune")
    on_ray = settings.tune.launcher == "ray"
    if on_ray:
        backends.need("ray", "ray")
    backends.select(settings.backend)
    from kft.studies.tune import launching
    from kft.studies.tune import storage as storages

    opened = storages.begin(settings, study, storage)
    if settings.tune.method == "grid":
        note(f"grid      {planned} trials")
    with stop_signals() as stop:
        timed_out = threading.Event()
        clock = threading.Timer(
            (settings.tune.timeout_minutes or 0) * 60, lambda: (timed_out.set(), stop.set())
        )
        clock.daemon = True
        if settings.tune.timeout_minutes:
            clock.start()
        if on_ray:
            from kft.studies.tune import cluster

            cluster.run_workers(opened, storage, stop)
        elif settings.tune.workers > 1:
            launching.run_workers(study, storage, settings.tune.workers, stop)
        from kft.studies.tune import results, working

        if not on_ray:  # takes over what the workers left
            working.work(opened, stop)
        clock.cancel()
        content = working.finish(opened)
    print_json(content) if as_json else click.echo(results.text(content))
    say(f"page      {study}/study.html")
    if content["best"]:
        say(f"best      kft train {study}/best.toml")
    if stop.is_set():
        why = "the time is over" if timed_out.is_set() else "stopped"
        say(f"{study}: {why}; the running trials are saved, the same command goes on")
        sys.exit(0 if timed_out.is_set() else EXIT_STOPPED)
