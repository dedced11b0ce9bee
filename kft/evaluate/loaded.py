"""A finished run, or an ensemble of them, ready to predict."""

from dataclasses import dataclass, replace
from pathlib import Path

from kft import backend, models, runs
from kft import config as configs
from kft.config import Config
from kft.errors import KftError
from kft.runs import RunDir
from kft.tasks import TASKS
from kft.tasks.answers import mean_learned
from kft.tasks.record import Inputs, Learned, Task
from kft.text import Tokenizer, read_tokenizer


@dataclass(frozen=True)
class LoadedRun:
    """A finished run, or an ensemble of them, ready to predict.

    Attributes:
        run: of an ensemble the first one; its settings, labels and tokenizer are those of all.
        inputs: what it reads of a row.
        learned: what the task took from train; of an ensemble thresholds are the mean of all.
        model: has the weights of `run`, those of an ensemble's runs in turn.
        members: the runs of an ensemble, else none.
        path: the folder that was opened.
    """

    run: RunDir
    config: Config
    task: Task
    inputs: Inputs
    learned: Learned
    tokenizer: Tokenizer
    model: models.Classifier
    path: Path
    members: tuple[RunDir, ...] = ()

    @property
    def labels(self) -> list[str]:
        return list(self.learned.labels)


def load_run(path: str | Path, backend_name: str | None = None) -> LoadedRun:
    """The finished run in a folder, or the ensemble, its model on the backend that Keras runs on.

    Args:
        path: the folder of a run, or of runs over seeds or folds; it may have been copied or
            renamed.
        backend_name: "jax", "torch" or "tensorflow", needed before anything has imported Keras;
            None keeps the current one.

    Raises:
        KftError: the folder holds no whole, finished run, or the runs of an ensemble do not go
        together.
    """
    backend.select(backend_name)
    if not runs.is_ensemble(path):
        return _load(runs.open_run(path))
    folder = runs.open_ensemble(path)
    run_dirs = [runs.open_run(member.run.path) for member in runs.finished_members(folder)]
    loaded = _load(run_dirs[0])
    for run in run_dirs[1:]:
        _check_goes_with(loaded, run)
    learned = mean_learned([runs.read_learned(run) for run in run_dirs])
    return replace(loaded, learned=learned, path=folder.path, members=tuple(run_dirs))


def _load(run: RunDir) -> LoadedRun:
    config = runs.read_config(run)
    learned = runs.read_learned(run)
    model = models.load(run, config.train.precision)
    if model.architecture.outputs != TASKS[config.task].outputs(learned):
        raise KftError(
            f"{run.labels}: names {len(learned.labels)} labels, the model has {model.architecture.outputs} outputs",
            "copy the run folder again",
        )
    tokenizer = read_tokenizer(run)
    inputs = runs.read_inputs(run)
    return LoadedRun(run, config, TASKS[config.task], inputs, learned, tokenizer, model, run.path)


def _check_goes_with(loaded: LoadedRun, run: RunDir) -> None:
    """Raises KftError: a run of an ensemble reads other texts than the first, or other labels."""
    config, first = runs.read_config(run), loaded.run
    read = (
        "task",
        "data.text",
        "data.text_pair",
        "data.group",
        "data.spans",
        "data.question",
        "data.context",
        "model.max_length",
        "model.stride",
        "model.windows",
    )
    differ = [name for name in configs.differences(loaded.config, config) if name in read]
    if read_tokenizer(run) != loaded.tokenizer:
        differ.append("tokenizer")
    if sorted(runs.read_labels(run)) != sorted(loaded.labels):
        differ.append("labels")
    if differ:
        raise KftError(
            f"{run.path}: cannot answer together with {first.path}: they differ in {', '.join(differ)}",
            "the runs of one ensemble come from one `kft train`: copy the whole folder again",
        )
