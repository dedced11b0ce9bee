"""Trains and scores the tasks of a suite over seeds, each (task, seed) once.

suite.json suite.md suite.html submission.zip
runs/TASK-seedN/                   a run directory
runs/TASK-seedN.json               {"train_seconds": wall time of its training}
scores/TASK-seedN.json             {"task", "seed", "metrics": {name: score}, "train_seconds"}
scores/TASK-seedN.SPLIT.parquet    the examples of a split, with `target` and `answer`
"""

import json
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from kft import config as configs
from kft import evaluate, runs, train
from kft.config import Config
from kft.data import sources
from kft.data.sources import benchmarks
from kft.errors import KftError, did_you_mean
from kft.progress import note
from kft.runs import RunDir
from kft.studies.suites import page, submission, summary
from kft.studies.suites.records import SUITES, Task


@dataclass(frozen=True)
class Job:
    """What one call of `run` is to do."""

    suite: str
    tasks: tuple[Task, ...]
    seeds: tuple[int, ...]
    folder: Path
    overrides: tuple[str, ...]
    from_mnli: bool

    def run(self, task: Task, seed: int) -> RunDir:
        """Where the run stands that answers a task."""
        start = "-from-mnli" if self.from_mnli and task.from_mnli else ""
        return RunDir(self.folder / "runs" / f"{task.by or task.name}{start}-seed{seed}")

    def scores(self, task: Task, seed: int) -> Path:
        start = "-from-mnli" if self.from_mnli and task.from_mnli else ""
        return self.folder / "scores" / f"{task.name}{start}-seed{seed}.json"

    def answers(self, task: Task, seed: int, split: str) -> Path:
        return self.scores(task, seed).with_suffix(f".{split}.parquet")


def shared(preset: str | None = None, data_dir: str | None = None) -> tuple[str, ...]:
    """Overrides for every task of a suite.

    Args:
        preset: `model.preset`.
        data_dir: `data.data_dir`: the files of the archive, or prepared TFDS data sets.
    """
    overrides = [f"data.data_dir={json.dumps(str(Path(data_dir).resolve()))}"] if data_dir else []
    return (*overrides, *([f"model.preset={json.dumps(preset)}"] if preset else []))


def run(
    suite: str,
    tasks: list[str] | None = None,
    seeds: tuple[int, ...] = (1, 2, 3),
    overrides: tuple[str, ...] = (),
    folder: str | Path | None = None,
    from_mnli: bool = False,
) -> dict[str, Any]:
    """Trains and scores what is not done, and writes suite.json, suite.md, suite.html, answers.

    Args:
        suite: a key of `SUITES`.
        tasks: names; None takes all.
        seeds: each is a run of its own.
        overrides: as `config.load` takes them, for every task; those of `shared` among them.
        folder: of the suite; None takes `runs/<suite>`.
        from_mnli: RTE, MRPC and STS-B start from the MNLI run of the same seed.

    Returns:
        The content of suite.json, see `summary.FIELDS`.

    Raises:
        KftError: there is no such task, or a setting is wrong. What fails in one task stands under
        "failed". train.Stopped: a signal came; the same call goes on.
    """
    plan = Job(
        suite,
        _chosen(suite, tasks, from_mnli),
        tuple(dict.fromkeys(seeds)),
        Path(folder or Path("runs") / suite),
        tuple(overrides),
        from_mnli,
    )
    settings = {
        task.name: _config(plan, task, plan.seeds[0]) for task in plan.tasks
    }  # mistakes before any training
    with runs.only_writer(plan.folder):
        runs.sweep(plan.folder)
        return _run(plan, next(iter(settings.values())).model.preset)


def _run(plan: Job, preset: str) -> dict[str, Any]:
    """Trains and scores what is not done, while no other process writes in the folder."""
    suite, from_mnli = plan.suite, plan.from_mnli
    done: dict[str, dict[int, dict[str, Any]]] = {task.name: {} for task in plan.tasks}
    failed: list[dict[str, Any]] = []
    for task, seed in _order(plan):
        try:
            done[task.name][seed] = _done(plan, task, seed) or _train_and_score(plan, task, seed)
        except train.Stopped:
            raise
        except Exception as error:  # whatever is wrong with one task, the others are still worth their time
            message = (
                f"{error.message} ({error.hint})"
                if isinstance(error, KftError)
                else f"{type(error).__name__}: {error}"
            )
            if not isinstance(error, KftError):
                traceback.print_exc()
            note(f"{task.title}, seed {seed}: failed: {message}")
            failed.append({"task": task.name, "seed": seed, "error": message})
    content = summary.summarize(suite, preset, plan.seeds, plan.tasks, done, failed, from_mnli)
    content["submission"] = _write_submission(plan, done)
    runs.write_json(plan.folder / "suite.json", content)
    runs.write_text(plan.folder / "suite.md", summary.markdown(content))
    runs.write_text(plan.folder / "suite.html", page.html(content))
    return runs.finite(content | {"folder": str(plan.folder)})


def _chosen(suite: str, names: list[str] | None, from_mnli: bool) -> tuple[Task, ...]:
    known = {task.name: task for task in SUITES[suite]}
    strange = [name for name in names or () if name not in known]
    if strange:
        message = "\n".join(
            f"{suite} has no task `{name}`{did_you_mean(name, list(known))}" for name in strange
        )
        raise KftError(message, f"its tasks are {', '.join(known)}")
    chosen = [task for task in SUITES[suite] if not names or task.name in names]
    if from_mnli and "mnli" not in known:
        raise KftError(f"{suite} has no MNLI to start from", "--set model.from_run=RUN starts from any run")
    lacking = [task for task in chosen if task.by and task.by not in [t.name for t in chosen]]
    if lacking:
        raise KftError(
            f"{lacking[0].title} is answered by the model of `{lacking[0].by}`, which is not among the tasks",
            f"--tasks {lacking[0].by},{lacking[0].name}",
        )
    if from_mnli and any(task.from_mnli for task in chosen) and "mnli" not in [t.name for t in chosen]:
        raise KftError(
            "--from-mnli needs the task `mnli`, which is not among the tasks", "add mnli to --tasks"
        )
    return tuple(chosen)


def _order(plan: Job) -> Iterator[tuple[Task, int]]:
    """Every task and seed: what others start from first, seed by seed: whole columns early."""
    last = {True: 0, False: 1}
    tasks = sorted(plan.tasks, key=lambda t: last[t.name == "mnli"] if plan.from_mnli else 0)
    for seed in plan.seeds:
        for task in sorted(tasks, key=lambda t: t.by is not None):
            yield task, seed


def _config(plan: Job, task: Task, seed: int) -> Config:
    start = []
    if plan.from_mnli and task.from_mnli:
        mnli = next(t for t in plan.tasks if t.name == "mnli")
        start = [f"model.from_run={json.dumps(str(plan.run(mnli, seed).path.resolve()))}"]
    return configs.load(task.config, [*plan.overrides, *start, f"train.seed={seed}"])


def _done(plan: Job, task: Task, seed: int) -> dict[str, Any] | None:
    """The scores of a (task, seed) that is finished."""
    if not plan.scores(task, seed).exists() or not plan.run(task, seed).done.exists():
        return None
    _check_same_settings(plan.run(task, seed), _config(plan, task, seed))
    note(f"{task.title}, seed {seed}: finished before")
    return runs.read_json(plan.scores(task, seed), "metrics", "train_seconds")


def _check_same_settings(run: RunDir, config: Config) -> None:
    """Raises KftError: the run was trained with other settings than are asked for now."""
    free = ("backend", "data.data_dir", "model.from_run")
    changed = [name for name in configs.differences(runs.read_config(run), config) if name not in free]
    if changed:
        raise KftError(
            f"{run.path}: was trained with another {', '.join(changed)}", "choose another folder with --run"
        )


def _train_and_score(plan: Job, task: Task, seed: int) -> dict[str, Any]:
    run, config = plan.run(task, seed), _config(plan, task, seed)
    seconds = 0.0
    if task.by is None:
        seconds = _train(run, config, f"{task.title}, seed {seed}")
    elif not run.done.exists():
        raise KftError(f"the model of {task.by} is missing", f"{task.by} failed, see above")
    metrics = _score(plan, task, seed, config)
    content = {"task": task.name, "seed": seed, "metrics": metrics, "train_seconds": seconds}
    runs.write_json(plan.scores(task, seed), content)
    return runs.finite(content)


def _train(run: RunDir, config: Config, title: str) -> float:
    """Trains, or goes on with, one run; returns the seconds that this took now."""
    started = time.monotonic()
    if run.done.exists() or runs.checkpoint_files(run):
        _check_same_settings(run, config)
    if run.done.exists():
        return _seconds(run)
    if runs.checkpoint_files(run):
        note(f"{title}: goes on")
        train.resume(run.path)
    else:
        note(f"{title}: trains")
        train.train(config, run.path)
    runs.write_json(_time_file(run), {"train_seconds": time.monotonic() - started})
    return _seconds(run)


def _seconds(run: RunDir) -> float:
    file = _time_file(run)
    return runs.read_json(file, "train_seconds")["train_seconds"] if file.exists() else 0.0


def _time_file(run: RunDir) -> Path:
    return run.path.with_name(f"{run.path.name}.json")


def _score(plan: Job, task: Task, seed: int, config: Config) -> dict[str, float]:
    """Scores the task's splits, and keeps the answers to them and to those for the server."""
    data = task.data(config.data)
    available = _splits(data)
    loaded = evaluate.load_run(plan.run(task, seed).path)
    scores: dict[str, float] = {}
    for split in dict.fromkeys([*task.splits, *(s.split for s in task.submissions)]):
        if split not in available:
            continue
        table = _answers(loaded, *_read(data, split))
        runs.write_whole(plan.answers(task, seed, split), table.write_parquet)
        if split in task.splits:
            scores |= task.scored(table, split)
    if not scores and task.by is None:
        raise KftError(f"{task.title} has no labelled validation split to score", "give one in --data-dir")
    return scores


def _splits(data: Any) -> list[str]:
    """The splits that can be read; of a config with data of its own those that it names."""
    return (
        sources.benchmark_splits(data) if data.source in benchmarks.BENCHMARKS else list(sources.read(data))
    )


def _read(data: Any, split: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    if data.source in benchmarks.BENCHMARKS:
        return sources.read_benchmark(data, split)
    frame = sources.read(data)[split]
    return frame, frame.with_columns(pl.col("id").alias("idx"))


def _answers(loaded: evaluate.LoadedRun, frame: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    answered = loaded.task.answered
    answer = pl.Series("answer", [line[answered] for line in evaluate.predict(loaded, frame)])
    return table.with_columns(frame["label"].alias("target"), answer)


def _write_submission(plan: Job, done: dict[str, dict[int, dict[str, Any]]]) -> dict[str, Any]:
    """Zips the answers of each task's best seed; reports which files the server still lacks."""
    tables, seeds = [], {}
    for task in plan.tasks:
        finished = done[task.by or task.name]
        for wanted in task.submissions:
            usable = [
                s for s in finished if s in done[task.name] and plan.answers(task, s, wanted.split).exists()
            ]
            if usable:
                best = max(usable, key=lambda seed: summary.task_score(finished[seed]["metrics"]))
                tables.append((wanted, task.labels, pl.read_parquet(plan.answers(task, best, wanted.split))))
                seeds[wanted.file] = best
    missing = [s.file for task in SUITES[plan.suite] for s in task.submissions if s.file not in seeds]
    if not tables:
        return {"file": None, "seeds": {}, "missing": missing, "refused": []}
    path = submission.write(plan.folder / "submission.zip", tables)
    refused = submission.refused(plan.suite, path)
    return {"file": path.name, "seeds": seeds, "missing": missing, "refused": refused}
