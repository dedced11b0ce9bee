"""Click commands: read options, call one function, print; imports wait for their command."""

from kft.cli import process

process.begin()  # before anything else is imported

import click  # noqa: E402

from kft import __version__  # noqa: E402
from kft.cli import compare, listing, runs, serving, settings, suite, training, tune  # noqa: E402
from kft.cli.shared import Commands  # noqa: E402


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="kft")
def main() -> None:
    """Fine-tune a pretrained language model on labelled text, measure it, and use it.

    `kft train` without a config trains a topic classifier on BBC News.
    """


COMMANDS = [
    settings.init,
    training.train,
    tune.tune,
    suite.suite,
    listing.list_runs,
    runs.evaluate,
    runs.predict,
    compare.compare,
    runs.export,
    serving.serve,
    settings.data,
    settings.show_config,
    settings.list_configs,
    listing.completion,
]
for command in COMMANDS:  # in the order of use, as `kft --help` lists them
    main.add_command(command)
