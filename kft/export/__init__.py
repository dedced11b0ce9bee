"""A finished run → an artefact for others to load, and proof that it answers as the run does."""

import contextlib
import glob
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kft import backend, runs
from kft.errors import KftError, did_you_mean
from kft.export import card, hubs, huggingface, keras_preset, onnx_folder, peft, savedmodel
from kft.export import source as sources
from kft.export.fields import FIELDS
from kft.export.source import Source
from kft.progress import note
from kft.tasks import TASKS

__all__ = ["EXPORTERS", "FIELDS", "Exporter", "export", "push", "summary"]

EXPORT_FORMAT = 1  # of export.json


@dataclass(frozen=True)
class Exporter:
    """One kind of artefact.

    Attributes:
        write: (source, empty folder) → the fields of export.json about the files.
        prove: (source, folder) → "comparison" and other fields of export.json; raises KftError
            where the answers differ.
        poolings, activations: those that the format can hold; None is every one.
        spans: numbers of marked words that its head can read.
        packages: what it needs beside kft's own dependencies, by the names they are imported with.
        extra: of kft, which installs them.
        versioned: whether the output is a folder of numbered versions, to which one is added.
    """

    write: Callable[[Source, Path], dict[str, Any]]
    prove: Callable[[Source, Path], dict[str, Any]]
    poolings: tuple[str, ...] | None = None
    activations: tuple[str, ...] | None = None
    spans: tuple[int, ...] = (0,)
    packages: tuple[str, ...] = ()
    extra: str | None = None
    versioned: bool = False


def export(run: str | Path, to: str, output: str | Path, verify: bool = True) -> dict[str, Any]:
    """Exports a finished run.

    Args:
        run: the run's folder.
        to: a key of EXPORTERS.
        output: the folder to make; for "savedmodel" the folder of the versions, to which the next
            one is added.
        verify: whether to compare the artefact's answers with the run's, and to measure it. An
            artefact that differs is not kept.

    Returns:
        The content of export.json, see `FIELDS`, and "output", the new folder.

    Raises:
        KftError: the run is unfinished, the output exists, the format cannot hold the model, a
            package is missing, or the artefact does not answer as the run does.
    """
    exporter = _exporter(to)
    output = Path(output).expanduser()
    _check_output(exporter, output)
    with _alone(output, exporter.versioned):
        source = sources.load(run)
        _check_holds(source, to)
        with _aside(output, exporter.versioned) as folder, runs.disk_errors(output):
            _check_space(source, folder, output)
            report = _describe(source, to)
            written = exporter.write(source, folder)
            report |= written | {"notes": report["notes"] + written.get("notes", []) + _cuts(source, written)}
            if verify:
                note("checking that it answers as the run does …")
                proven = exporter.prove(source, folder)
                report |= proven | {"notes": report["notes"] + proven.get("notes", [])}
            else:
                report["comparison"] = None
            runs.write_json(folder / "export.json", report | {"sha256": _hashes(folder)})
            placed = _place(folder, output, exporter.versioned)
    return runs.read_json(placed / "export.json") | {"output": str(placed)}


def push(
    run: str | Path, to: str | None, address: str, output: str | Path | None = None, public: bool = False
) -> dict[str, Any]:
    """Exports a finished run, proves it, and pushes it to a hub with a model card.

    Args:
        run: the run's folder.
        to: a key of EXPORTERS; None takes the one that the hub's models usually have.
        address: `hf://ORG/NAME`, `hf://ORG/NAME@BRANCH` or
            `kaggle://OWNER/MODEL/FRAMEWORK/VARIATION`.
        output: as for `export`; None keeps nothing here.
        public: whether a model that is new on the hub can be read by everybody.

    Returns:
        What `export` does, and "pushed", the URL of its page.

    Raises:
        KftError: as `export`; or nobody is signed in, the hub refuses the push, or cannot be
            reached. What it can find at once is reported before the export.
    """
    place = hubs.parse(address)
    to = hubs.format_for(place, to)
    _exporter(to)
    source = runs.open_run(run)
    hubs.check(place, public)
    with tempfile.TemporaryDirectory(prefix="kft-") as scratch:
        exported = export(run, to, Path(scratch, "export") if output is None else output)
        card.write(source, Path(exported["output"]), place)
        note(f"pushing to {place} …")
        page = hubs.push(place, Path(exported["output"]), public)
    return exported | {"output": exported["output"] if output else None, "pushed": page}


def summary(report: dict[str, Any]) -> str:
    """What a person wants to know of an export."""
    lines = []
    comparison, benchmark = report.get("comparison"), report.get("benchmark") or {}
    if comparison:
        lines.append(
            f"answers     {comparison['examples']} texts, differ from the run by at most {comparison['max_difference']:.1e}"
        )
    else:
        lines.append("answers     not compared with the run's (--no-verify)")
    for name, times in benchmark.items():
        if isinstance(times, dict):
            lines.append(
                f"{name.replace('_', ' '):11} {times['median_milliseconds']:.1f} ms a call, {times['texts_per_second']:.0f} texts/s"
            )
    return "\n".join(lines + report.get("notes", []))


def _exporter(to: str) -> Exporter:
    if to not in EXPORTERS:
        raise KftError(
            f"cannot export to {to!r}{did_you_mean(to, EXPORTERS)}", f"formats: {', '.join(EXPORTERS)}"
        )
    exporter = EXPORTERS[to]
    missing = [name for name in exporter.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise KftError(
            f"exporting to {to} needs {', '.join(missing)}", f"pip install 'kft[{exporter.extra}]'"
        )
    return exporter


def _check_output(exporter: Exporter, output: Path) -> None:
    if exporter.versioned:
        if output.exists() and not output.is_dir():
            raise KftError(
                f"{output}: is a file, not a folder of versions", "choose another folder with --output"
            )
        strangers = [
            name for name in ("config.toml", "config.json", "saved_model.pb") if (output / name).exists()
        ]
        if strangers:
            raise KftError(
                f"{output}: holds {strangers[0]}, not versions of a model",
                "choose another folder with --output",
            )
    elif os.path.lexists(output):
        raise KftError(f"{output}: exists, and is never overwritten", "choose another folder with --output")


def _check_holds(source: Source, to: str) -> None:
    """Raises KftError: the format cannot hold the run's model."""
    architecture = source.architecture
    able = [name for name in EXPORTERS if name in TASKS[architecture.task].export.formats]
    if to not in able:
        raise KftError(
            f"the run's task is {architecture.task!r}, which --to {to} cannot hold",
            f"formats that can: {', '.join(able)}"
            if able
            else "no format can; `kft predict` answers with the run",
        )
    for what, value, field in (
        ("pooling", architecture.pooling, "poolings"),
        ("activation", architecture.encoding.activation, "activations"),
        ("number of marked words (`data.spans`)", architecture.spans, "spans"),
    ):
        allowed = getattr(EXPORTERS[to], field)
        if allowed is not None and value not in allowed:
            able = [name for name, other in EXPORTERS.items() if value in (getattr(other, field) or (value,))]
            raise KftError(
                f"the run's {what} is {value!r}, which --to {to} cannot hold (only {', '.join(map(str, allowed))})",
                f"formats that can: {', '.join(able)}"
                if able
                else "no format can; `kft predict` answers with the run",
            )


def _check_space(source: Source, folder: Path, output: Path) -> None:
    """Raises KftError: the disk is nearly full; TensorFlow's own errors would not say so."""
    needed = int(1.5 * sum(value.nbytes for value in source.weights.values())) + 2**22
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise KftError(
            f"{output}: needs about {needed / 2**20:,.0f} MiB, the disk has {free / 2**20:,.0f} MiB left",
            "free some space, or choose another folder with --output",
        )


def _describe(source: Source, to: str) -> dict[str, Any]:
    """The part of export.json that is the same for every format."""
    run, architecture = source.loaded.run, source.architecture
    trained_in = source.loaded.config.train.precision
    report = {
        "format": EXPORT_FORMAT,
        "to": to,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "run": run.path.name,
        "run_sha256": {
            file.name: runs.read_json(run.done, "sha256")["sha256"].get(file.name)
            for file in (run.config, run.model, run.labels, run.tokenizer, run.vocabulary, run.weights)
            if file.exists()
        },
        "task": architecture.task,
        "labels": source.labels,
        "inputs": savedmodel.text_names(source),
        "max_length": source.max_length,
        "pooling": architecture.pooling,
        "activation": architecture.encoding.activation,
        "environment": backend.describe(),
        "notes": [],
    }
    if trained_in != "float32":
        report["notes"] = [
            f"trained in {trained_in}; the export computes in float32, as does the run it is compared with"
        ]
    return report


def _cuts(source: Source, written: dict[str, Any]) -> list[str]:
    """A note where the run reads longer texts in windows and the export cuts them."""
    stride = source.loaded.inputs.stride
    if stride is None or "windows" in written:
        return []
    return [
        f"windows     the export cuts texts to {source.max_length} tokens, `kft predict` reads longer ones in windows that "
        f"share {stride}; compared on texts that are cut"
    ]


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): runs.file_sha256(file) for file in files}


@contextlib.contextmanager
def _alone(output: Path, versioned: bool) -> Iterator[None]:
    """Keeps other exports from the output, and removes what killed ones left aside.

    Raises:
        KftError: another process exports to the same output.
    """
    folder = output if versioned else output.parent
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        lock = folder / f"{runs.LOCK}.{output.name}"
        with runs.only_writer(output, "wait for it, or choose another folder with --output", lock):
            for left in folder.glob(f".*.{glob.escape(output.name)}"):
                if runs.is_aside(left):
                    shutil.rmtree(left, ignore_errors=True)
            yield
    finally:
        for parent in missing:
            with contextlib.suppress(OSError):  # it holds the artefact
                parent.rmdir()


@contextlib.contextmanager
def _aside(output: Path, versioned: bool) -> Iterator[Path]:
    """An empty folder on the output's disk, gone at the end unless it was renamed."""
    parent = output if versioned else output.parent
    aside = runs.aside_of(parent / output.name)
    try:
        try:
            aside.mkdir(parents=True)
        except OSError as error:
            raise runs.cannot_write(output, error) from error
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _place(folder: Path, output: Path, versioned: bool) -> Path:
    """Renames the finished folder to its place, if no other export has that by now."""
    if not versioned:
        if os.path.lexists(output):
            raise KftError(
                f"{output}: exists by now, and is never overwritten", "choose another folder with --output"
            )
        return folder.rename(output)
    while True:
        numbers = [int(entry.name) for entry in output.iterdir() if entry.name.isdecimal()]
        version = output / str(max(numbers, default=0) + 1)
        try:
            return folder.rename(version)
        except OSError:
            if not version.exists():
                raise


EXPORTERS = {
    "savedmodel": Exporter(
        savedmodel.write,
        savedmodel.prove,
        versioned=True,
    ),
    "hf": Exporter(huggingface.write, huggingface.prove, poolings=("cls",)),
    "keras": Exporter(
        keras_preset.write, keras_preset.prove, poolings=("cls",), activations=("gelu_tanh", "gelu_exact")
    ),
    "onnx": Exporter(onnx_folder.write, onnx_folder.prove, packages=("onnx", "onnxruntime"), extra="onnx"),
    "peft": Exporter(peft.write, peft.prove, poolings=("cls",)),
}
