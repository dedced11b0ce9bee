"""What the commands share: the group that reports mistakes, options, statuses, backends."""

import contextlib
import errno
import json
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from kft.cli import process
from kft.cli.process import EXIT_MISTAKE, EXIT_PIPE, EXIT_STOPPED

__all__ = [
    "BACKEND", "EXIT_MISTAKE", "EXIT_PIPE", "EXIT_STOPPED", "FILE_SET", "JSON", "SET", "SKIP_UNLABELLED", "Commands", "backend_of", "check_about_file", "override", "print_file",
    "print_json", "say", "seed_list", "select",
]  # fmt: skip


BACKEND = click.option("--backend", type=click.Choice(["jax", "torch", "tensorflow"]), help="Keras backend.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


def complete_config(context, parameter, typed: str) -> list[CompletionItem]:
    """Built-in configs, and files."""
    from kft import config as configs

    names = [CompletionItem(name) for name in configs.builtin() if name.startswith(typed)]
    return [*names, CompletionItem(typed, type="file")]


def complete_setting(context, parameter, typed: str) -> list[CompletionItem]:
    """Names of settings, with what they mean."""
    from kft import config as configs

    rows = configs.settings_table()
    return [
        CompletionItem(f"{name}=", help=meaning) for name, _, _, meaning in rows if name.startswith(typed)
    ]


CONFIG = click.argument("config", required=False, shell_complete=complete_config)
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_setting,
    help="Change one setting; may be repeated.",
)


FILE_SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="How the file is read, such as data.delimiter=';'; may be repeated.",
)
SKIP_UNLABELLED = click.option(
    "--skip-unlabelled", is_flag=True, help="Leave out the rows of the file that have no label."
)


class Commands(click.Group):
    """Turns a user's mistake into a message and an exit status."""

    def main(self, *args, **kwargs):
        try:
            with process.stoppable():
                return super().main(*args, **kwargs)
        except SystemExit as status:
            process.end(status.code)
            raise

    def invoke(self, context: click.Context):
        from kft import errors

        try:
            return super().invoke(context)
        except errors.KftError as error:
            say(f"Error: {error}")
            sys.exit(EXIT_MISTAKE)
        except KeyboardInterrupt as stop:
            say(process.STOPPED.format(str(stop) or "SIGINT").rstrip())
            sys.exit(EXIT_MISTAKE)
        except BrokenPipeError:  # `kft … | head`
            process.forget_output()
            sys.exit(EXIT_PIPE)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            name = error.filename or "standard output"
            say(f"Error: {name}: cannot be written: no space left on the disk\n\nhint: free some space")
            process.forget_output()
            sys.exit(EXIT_MISTAKE)

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use, not of the alphabet

    def resolve_command(self, context: click.Context, args: list[str]):
        from kft.errors import did_you_mean

        if args and not args[0].startswith("-") and args[0] not in self.commands:
            context.fail(f"no such command '{args[0]}'{did_you_mean(args[0], self.commands)}")
        return super().resolve_command(context, args)


def say(text: str) -> None:
    """Says something on stderr, as far as anybody listens."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def print_json(value: Any, indent: int | None = None) -> None:
    """The result of a command on stdout, in UTF-8 whatever the locale."""
    print_file(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def print_file(text: str) -> None:
    """What a program or a file takes, in UTF-8 whatever the locale."""
    process.utf8_output()
    click.echo(text, nl=False)


def select(run: str, backend: str | None) -> None:
    """The backend asked for, else the one that the run was trained on where it is installed."""
    import importlib.util

    from kft import backend as backends

    if backend is None:
        trained_on = backend_of(run)
        backend = trained_on if importlib.util.find_spec(trained_on) else None
    backends.select(backend)
    backends.import_keras()


def backend_of(run: str) -> str:
    """The backend of a run, or of an ensemble's runs."""
    from kft import runs

    if runs.is_ensemble(run):
        return runs.read_config(runs.open_ensemble(run)).backend
    return runs.read_config(runs.open_run(run, finished=False)).backend


def check_about_file(data: str | None, overrides: tuple[str, ...], skip_unlabelled: bool) -> None:
    """Raises click.UsageError: what goes with a file is given without one."""
    if data is None and (overrides or skip_unlabelled):
        name = "--set" if overrides else "--skip-unlabelled"
        raise click.UsageError(
            f"{name} is about the file of --data: the rows of a split are as training read them"
        )


def override(overrides: tuple[str, ...], **options: tuple[str, Any]) -> tuple[str, ...]:
    """The overrides, and those that options stand for.

    Args:
        overrides: of --set.
        options: name of the option → (setting, its value or None).

    Raises:
        click.UsageError: a setting is given twice, with different values.
    """
    from kft.config import reading

    result = list(overrides)
    for option, (setting, value) in options.items():
        if value is None:
            continue
        for text in overrides:
            keys, given = reading.split_override(text)
            if ".".join(keys) == setting and reading.toml_value(given) != value:
                name = option.replace("_", "-")
                raise click.UsageError(f"--{name} {value} and --set {text} contradict each other")
        result.append(f"{setting}={json.dumps(value)}")
    return tuple(result)


def seed_list(text: str) -> tuple[int, ...]:
    """`1,2,3` → (1, 2, 3)."""
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            f"must be whole numbers with commas between, got: {text!r}", param_hint="--seeds"
        ) from None
    if not all(0 <= seed < 2**31 for seed in seeds):
        raise click.BadParameter(f"must be from 0 to {2**31 - 1}, got: {text!r}", param_hint="--seeds")
    return seeds
