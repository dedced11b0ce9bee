"""`kft evaluate`, `kft predict` and `kft export`: what is done with a finished run."""

import sys

import click

from kft.cli import process
from kft.cli.shared import (
    BACKEND,
    FILE_SET,
    JSON,
    SKIP_UNLABELLED,
    check_about_file,
    print_json,
    say,
    select,
)
from kft.tasks import TASKS


@click.command(short_help="Score a finished RUN on a split or a labelled file.")
@click.argument("run")
@click.option(
    "--split", type=click.Choice(["test", "validation", "train"]), help="[default: test, else validation]"
)
@click.option(
    "--data", type=click.Path(), help="Score this file, with the run's columns, instead of a split."
)
@FILE_SET
@SKIP_UNLABELLED
@BACKEND
@JSON
def evaluate(run, split, data, overrides, skip_unlabelled, backend, as_json) -> None:
    """Score a finished RUN on one of its splits, or on any labelled file.

    RUN may be a folder of runs over seeds or folds: their predictions are then averaged.
    """
    if split and data:
        raise click.UsageError("--split and --data exclude each other")
    check_about_file(data, overrides, skip_unlabelled)
    select(run, backend)
    from kft import evaluate as evaluation
    from kft import report

    scores = evaluation.evaluate(run, split, data, overrides, skip_unlabelled)
    details = scores.pop("details")
    if as_json:
        print_json(scores)
    else:
        click.echo(report.summary({scores["split"]: scores["metrics"]}, {scores["split"]: details}))


@click.command(short_help="Answer texts with a finished RUN.")
@click.argument("run")
@click.argument("file", default="-")
@click.option("--output", type=click.Path(dir_okay=False), help="File for the answers, else stdout.")
@click.option(
    "--format",
    "written",
    type=click.Choice(
        [
            "jsonl",
            "csv",
            "tsv",
            "parquet",
            *(name for rules in TASKS.rules.values() for name in rules.written),
        ]
    ),
    help="Of the answers; tables have the input's own columns, conll is for tagged words, squad and squad-none for answers in a context (what the official script takes).  [default: by --output's ending, else jsonl]",
)
@FILE_SET
@BACKEND
def predict(run, file, output, written, overrides, backend) -> None:
    """Label texts with a finished RUN, or with the mean of runs over seeds or folds in one folder.

    FILE holds one text a line, or is CSV, TSV, JSON, JSONL or Parquet with the run's columns; - is
    standard input. Writes one JSON object a text, in the order of the input.
    """
    if written == "parquet" and output is None:
        raise click.UsageError("--format parquet goes with --output")
    if output is None:
        process.need("stdout", "give a file for the answers with --output")
        process.utf8_output()
    if file == "-":
        process.need("stdin", "give a file with texts")
    if file == "-" and sys.stdin.isatty():
        say("reading texts from the terminal, one a line; Ctrl-D ends them")
    select(run, backend)
    from kft import evaluate as evaluation

    evaluation.predict_file(run, file, output, overrides, written)


@click.command(short_help="Turn a finished RUN into a model that others load.")
@click.argument("run")
@click.option(
    "--to",
    type=click.Choice(["savedmodel", "hf", "keras", "onnx", "peft"]),
    help="Format.  [with --push: by default the one that its hub expects]",
)
@click.option(
    "--output",
    type=click.Path(),
    help="Folder to make; for savedmodel, to add a version to.  [with --push: by default nothing is kept]",
)
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Compare its answers with the run's."
)
@click.option(
    "--push",
    metavar="ADDRESS",
    help="Push it to hf://ORG/NAME[@BRANCH] or kaggle://OWNER/MODEL/FRAMEWORK/VARIATION, with a model card.",
)
@click.option(
    "--public", is_flag=True, help="Let everybody read what is pushed; a new model is private without."
)
@JSON
def export(run, to, output, verify, push, public, as_json) -> None:
    """Turn a finished RUN into a model that others load.

    savedmodel takes raw text and goes to TensorFlow Serving, as OUTPUT/1, OUTPUT/2, …; hf is a
    Hugging Face folder, keras a KerasHub preset, onnx a graph with an int8 variant, peft the
    low-rank adapters of the run by themselves. What does not answer as the run does is neither kept
    nor pushed.
    """
    missing = [name for name, value in (("--to", to), ("--output", output)) if value is None]
    if missing and push is None:
        raise click.UsageError(f"Missing option '{missing[0]}'.")
    if public and push is None:
        raise click.UsageError("--public goes with --push")
    if push is not None and not verify:
        raise click.UsageError("--push and --no-verify exclude each other: only what is proven is pushed")
    select(run, None)
    from kft import export as exporting

    if push is None:
        result = exporting.export(run, to, output, verify)
    else:
        result = exporting.push(run, to, push, output, public)
    if as_json:
        print_json(result)
        return
    say(exporting.summary(result))
    click.echo(result["pushed"] if push else result["output"])
