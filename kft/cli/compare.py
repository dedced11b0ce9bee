"""`kft compare`."""

import click

from kft.cli.shared import BACKEND, FILE_SET, JSON, SKIP_UNLABELLED, check_about_file, print_json, select


@click.command(short_help="Compare finished runs on the same rows.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--split", type=click.Choice(["test", "validation"]), help="[default: test, else validation]")
@click.option(
    "--data", type=click.Path(), help="Compare on this file, with the runs' columns, instead of a split."
)
@click.option("--metric", help="What the paired bootstrap tests.  [default: the task's main metric]")
@click.option(
    "--output", type=click.Path(dir_okay=False), help="JSONL file for all rows on which the runs disagree."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@FILE_SET
@SKIP_UNLABELLED
@BACKEND
@JSON
def compare(runs, split, data, metric, output, seed, overrides, skip_unlabelled, backend, as_json) -> None:
    """Compare finished RUNs on the same rows: scores, significance, and where the runs disagree.

    Without --data it reads what the runs predicted when they were trained. A RUN may be a folder of
    runs over seeds or
    folds: their predictions are then averaged.
    """
    if len(dict.fromkeys(runs)) < max(len(runs), 2):
        raise click.UsageError("give two different runs or more")
    if data and split or backend and not data:
        raise click.UsageError(
            "--split and --data exclude each other" if split else "--backend goes with --data"
        )
    check_about_file(data, overrides, skip_unlabelled)
    from kft.report import compare as comparing
    from kft.runs import check_output

    if output:
        check_output(output, *([data] if data else []), *comparing.trained_on(runs))
    if data:
        select(runs[0], backend)
        from kft import evaluate

        split, predicted = (
            "data",
            {run: evaluate.answer_file(run, data, overrides, skip_unlabelled) for run in runs},
        )
    else:
        split, predicted = comparing.read(runs, split)
    content, rows = comparing.compare(predicted, split, metric, seed)
    if output:
        comparing.write_disagreements(rows, output)
    print_json(content) if as_json else click.echo(comparing.text(content))
