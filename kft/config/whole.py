"""All sections together: the settings of a run."""

from typing import Any, Literal

from pydantic import Field, model_validator

from kft.config.conflicts import conflicts
from kft.config.sections import (
    CleanConfig,
    DataConfig,
    ModelConfig,
    Section,
    SplitConfig,
    TrainConfig,
    TuneConfig,
)
from kft.tasks import DEFAULT, TASKS


class Config(Section):
    """Every setting of a run. Build it with `load`."""

    task: Literal[tuple(TASKS)] = Field(
        DEFAULT,
        description="what is predicted: a class, a score, or the right one of the rows of a question (`data.group`)",
    )
    backend: Literal["jax", "torch", "tensorflow"] = Field("jax", description="Keras backend")
    data: DataConfig = Field(DataConfig(), description="where the examples are")
    split: SplitConfig = Field(SplitConfig(), description="how train is split")
    clean: CleanConfig = Field(CleanConfig(), description="what is dropped")
    model: ModelConfig = Field(ModelConfig(), description="the pretrained model and its head")
    train: TrainConfig = Field(TrainConfig(), description="optimisation")
    tune: TuneConfig = Field(TuneConfig(), description="how `kft tune` searches")

    @model_validator(mode="before")
    @classmethod
    def _columns_of_task(cls, settings: Any) -> Any:
        """The columns that the task reads where the settings name none."""
        rules = TASKS.rules.get(settings.get("task", DEFAULT)) if isinstance(settings, dict) else None
        data = settings.get("data", {}) if rules else None
        if not rules or not rules.columns or not isinstance(data, dict):
            return settings
        if rules.instead and any(data.get(key) is not None for key in (*rules.columns, *rules.instead)):
            return settings
        return settings | {"data": rules.columns | data}

    @model_validator(mode="before")
    @classmethod
    def _windows_of_task(cls, settings: Any) -> Any:
        """The length of windows, and what they share, where the settings name none."""
        rules = TASKS.rules.get(settings.get("task", DEFAULT)) if isinstance(settings, dict) else None
        model = settings.get("model", {}) if rules else None
        if not rules or rules.window is None or not isinstance(model, dict):
            return settings
        length = model.get("max_length", rules.window)
        stride = length // 3 if isinstance(length, int) else None
        return settings | {"model": {"max_length": rules.window, "stride": stride} | model}

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        problems = list(
            conflicts(self.task, self.backend, self.data, self.split, self.model, self.train, self.tune)
        )
        if problems:
            raise ValueError("\n".join(problems))
        return self
