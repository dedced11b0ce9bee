"""Click commands: read options, call one function, print. Nothing heavy is imported before a command needs it."""

import errno
import json
import os
import sys
from pathlib import Path

import click

from kft import __version__

EXIT_MISTAKE = 1
EXIT_PIPE = 141  # as a shell tells of a program that SIGPIPE ended
EXIT_STOPPED = 75  # sysexits.h: EX_TEMPFAIL, try again later

_BACKEND = click.option("--backend", type=click.Choice(["jax", "torch", "tensorflow"]), help="Keras backend.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
_SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one setting; may be repeated."
)


class _Commands(click.Group):
    """Turns a user's mistake into a message and an exit status."""

    def invoke(self, context: click.Context):
        from kft import errors

        try:
            return super().invoke(context)
        except errors.KftError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(EXIT_MISTAKE)
        except (
            BrokenPipeError
        ):  # `kft … | head`: nobody is left to talk to, not even when Python flushes at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_PIPE)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            name = error.filename or "standard output"
            click.echo(
                f"Error: {name}: cannot be written: no space left on the disk\n\nhint: free some space",
                err=True,
            )
            sys.stdout = None  # what it still holds cannot be written either
            sys.exit(EXIT_MISTAKE)

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use, not of the alphabet

    def resolve_command(self, context: click.Context, args: list[str]):
        from kft.errors import did_you_mean

        if args and not args[0].startswith("-") and args[0] not in self.commands:
            context.fail(f"no such command '{args[0]}'{did_you_mean(args[0], self.commands)}")
        return super().resolve_command(context, args)


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="kft")
def main() -> None:
    """Fine-tune a pretrained language model on labelled text, measure it, and use it.

    `kft train` without a config trains a topic classifier on BBC News.
    """


@main.command()
@click.argument("config", required=False)
@_BACKEND
@_SET
@click.option(
    "--run", "run_path", type=click.Path(), help="Folder to make for the run.  [default: runs/DATA-TIME]"
)
@click.option(
    "--resume", "resume_path", metavar="RUN", type=click.Path(), help="Go on with this unfinished run."
)
@click.option(
    "--dry-run", is_flag=True, help="Show settings, data and shapes, train one step, write nothing."
)
@_JSON
def train(config, backend, overrides, run_path, resume_path, dry_run, as_json) -> None:
    """Train a model.

    CONFIG is a TOML file or the name of a built-in config; without it, bbc_news. Stopped by Ctrl-C or SIGTERM, the run
    is saved first and --resume goes on with it.
    """
    from kft import config as configs

    if resume_path and (config or backend or overrides or run_path or dry_run):
        raise click.UsageError("--resume takes its settings from the run: it goes with --json only")
    if resume_path:
        _result(
            _run_training(_backend_of(resume_path), lambda training: training.resume(resume_path)), as_json
        )
        return
    overrides = (*overrides, *([f'backend="{backend}"'] if backend else []))
    settings = configs.load(config, overrides)
    if dry_run:
        told = _run_training(settings.backend, lambda training: training.dry_run(settings))
        click.echo(
            json.dumps(told, indent=2, ensure_ascii=False) if as_json else _dry_run_text(settings, told)
        )
        return
    _result(_run_training(settings.backend, lambda training: training.train(settings, run_path)), as_json)


@main.command(short_help="Score a finished RUN on a split or a labelled file.")
@click.argument("run")
@click.option(
    "--split", type=click.Choice(["test", "validation", "train"]), help="[default: test, else validation]"
)
@click.option(
    "--data", type=click.Path(), help="Score this file, with the run's columns, instead of a split."
)
@_BACKEND
@_JSON
def evaluate(run, split, data, backend, as_json) -> None:
    """Score a finished RUN on one of its splits, or on any labelled file."""
    if split and data:
        raise click.UsageError("--split and --data exclude each other")
    _select(run, backend)
    from kft import evaluate as evaluation
    from kft import report

    scores = evaluation.evaluate(run, split, data)
    details = scores.pop("details")
    if as_json:
        click.echo(json.dumps(scores, ensure_ascii=False))
    else:
        click.echo(report.summary({scores["split"]: scores["metrics"]}, {scores["split"]: details}))


@main.command()
@click.argument("run")
@click.argument("file", default="-")
@click.option("--output", type=click.Path(dir_okay=False), help="File for the answers, else stdout.")
@_BACKEND
def predict(run, file, output, backend) -> None:
    """Label texts with a finished RUN.

    FILE holds one text a line, or is CSV, TSV, JSON, JSONL or Parquet with the run's columns; - is standard input.
    Writes one JSON object a text, in the order of the input.
    """
    if file == "-" and sys.stdin.isatty():
        click.echo("reading texts from the terminal, one a line; Ctrl-D ends them", err=True)
    _select(run, backend)
    from kft import evaluate as evaluation

    evaluation.predict_file(run, file, output)


@main.command(short_help="Turn a finished RUN into a model that others load.")
@click.argument("run")
@click.option("--to", required=True, type=click.Choice(["savedmodel", "hf", "keras", "onnx"]), help="Format.")
@click.option(
    "--output", required=True, type=click.Path(), help="Folder to make; for savedmodel, to add a version to."
)
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Compare its answers with the run's."
)
@_JSON
def export(run, to, output, verify, as_json) -> None:
    """Turn a finished RUN into a model that others load.

    savedmodel takes raw text and goes to TensorFlow Serving, as OUTPUT/1, OUTPUT/2, …; hf is a Hugging Face folder, keras
    a KerasHub preset, onnx a graph with an int8 variant. What does not answer as the run does is not kept.
    """
    _select(run, None)
    from kft import export as exporting

    told = exporting.export(run, to, output, verify)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    click.echo(exporting.summary(told), err=True)
    click.echo(told["output"])


@main.command(short_help="Show what the data of a config hold.")
@click.argument("config", required=False)
@_SET
@click.option(
    "--run",
    "run_path",
    type=click.Path(),
    help="A finished run on this data: also lists likely label errors.",
)
@_JSON
def data(config, overrides, run_path, as_json) -> None:
    """Show what the data of CONFIG hold: counts, drops, labels, duplicates, leaks, token lengths."""
    from kft import audit
    from kft import config as configs

    told = audit.audit(configs.load(config, overrides), run_path)
    click.echo(json.dumps(told, indent=2, ensure_ascii=False) if as_json else audit.text(told))


@main.command("config", short_help="Show the settings of a config, or all there are.")
@click.argument("config", required=False)
@_SET
@click.option("--schema", is_flag=True, help="Every setting with its type, default and meaning.")
@_JSON
def show_config(config, overrides, schema, as_json) -> None:
    """Show the resolved settings of CONFIG, or with --schema every setting there is."""
    from kft import config as configs

    if schema and as_json:
        click.echo(json.dumps(configs.schema(), indent=2))
    elif schema:
        click.echo(_settings_text(configs.settings_table()))
    else:
        settings = configs.load(config, overrides)
        click.echo(
            json.dumps(settings.model_dump(), indent=2) if as_json else configs.dump(settings), nl=as_json
        )


@main.command("configs", short_help="List the built-in configs, or print one.")
@click.argument("name", required=False)
def list_configs(name) -> None:
    """List the built-in configs, or print the one called NAME."""
    from kft import config as configs

    if name:
        click.echo(configs.find(name).read_text("utf-8"), nl=False)
        return
    for known in configs.builtin():
        click.echo(known)


def _select(run: str, backend: str | None) -> None:
    """The backend asked for, else the one that the run was trained on where it is installed."""
    import importlib.util

    from kft import backend as backends

    if backend is None:
        trained_on = _backend_of(run)
        backend = trained_on if importlib.util.find_spec(trained_on) else None
    backends.select(backend)


def _backend_of(run: str) -> str:
    from kft import rundir

    return rundir.read_config(rundir.open_run(run, finished=False)).backend


def _run_training(backend: str, work) -> dict:
    """Calls `work` with the module `train`; a stop by a signal ends the process with status 75."""
    from kft import backend as backends

    backends.select(backend)  # before `train` imports Keras
    from kft import train as training

    try:
        return work(training)
    except training.Stopped as stopped:
        click.echo(str(stopped), err=True)
        sys.exit(EXIT_STOPPED)


def _result(result: dict, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    from kft import report, rundir

    run = rundir.RunDir(Path(result["run"]))
    click.echo(report.summary(result["metrics"], rundir.read_json(run.details)))
    click.echo(f"run       {result['run']}")
    click.echo(f"report    {run.report}", err=True)


def _settings_text(rows: list[tuple[str, str, str, str]]) -> str:
    name_width, default_width = (max(len(row[i]) for row in rows) for i in (0, 2))
    return "\n".join(
        f"{name:{name_width}}  {default:{default_width}}  {meaning} ({kind})"
        for name, kind, default, meaning in rows
    )


def _dry_run_text(settings, told: dict) -> str:
    from kft import audit
    from kft import config as configs

    shape, count = told["batches"], told["parameters"]
    return "\n".join(
        [
            configs.dump(settings),
            audit.text(told["data"]),
            "",
            f"batches     steps an epoch: {shape['steps']:,}; a step: {shape['examples']} examples in {shape['rows']} × "
            f"{shape['length']} tokens, {shape['filled']:.1%} filled (padding would fill {shape['filled_if_padded']:.1%})",
            f"parameters  {count['total']:,}, of which {count['trainable']:,} are trained",
            f"memory      about {max(1, told['memory_bytes'] / 2**20):,.0f} MiB for training",
            f"first step  loss {told['first_loss']:.4f}, {told['first_step_seconds']:.1f} s with compilation",
        ]
    )


if __name__ == "__main__":
    main()
