"""Which settings a task needs and refuses, to check a config without loading anything heavy."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rules:
    """Which settings a task needs and refuses.

    Attributes:
        problem: what Hugging Face calls the problem, one of those in `kft.tasks.problems`.
        losses: what `train.loss` may be, the default first.
        stratified: whether a split can be stratified by label.
        needs: dotted name of a setting that must be set → what it is, for the message.
        refuses: dotted name of a setting that must not be set → what it needs instead of this task.
        columns: setting of `data` → the column that it names where none of these and of `instead`
            is set.
        instead: settings of `data` that name other columns in their place.
        window: `model.max_length` where it is not set, and then `model.stride` is a third of it;
            None where a long text has no windows unless they are asked for.
        written: formats of `kft predict` besides those of all tasks.
    """

    problem: str
    losses: tuple[str, ...]
    stratified: bool = False
    needs: dict[str, str] = field(default_factory=dict)
    refuses: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    instead: tuple[str, ...] = ()
    window: int | None = None
    written: tuple[str, ...] = ()
