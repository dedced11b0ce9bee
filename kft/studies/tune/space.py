"""The [tune] table → what is searched, checked; and the points of a grid or of a random search.

A point is {setting: value}, such as {"train.epochs": 3, "train.optimizer": "sgd"}.
"""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kft import config as configs
from kft.config import Config, TuneConfig
from kft.errors import KftError, did_you_mean

Point = dict[str, Any]
HINT = '"train.learning_rate" = [1e-5, 5e-5], or {low = 1e-5, high = 1e-4, log = true}'
CHECKED_POINTS = 1000  # of a search whose points are not known beforehand, or are very many
SIGNIFICANT_DIGITS = 4  # of drawn numbers: more says nothing, and is hard to read


@dataclass(frozen=True)
class Choice:
    """A setting with values to choose among."""

    name: str
    values: tuple[Any, ...]

    @property
    def size(self) -> int:
        return len(self.values)

    def draw(self, share: float) -> Any:
        """The value at a share, from 0 to below 1, of the list."""
        return self.values[int(share * self.size)]


@dataclass(frozen=True)
class Range:
    """A number from low to high, both included; `step` None is any, `log` draws logarithms."""

    name: str
    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    @property
    def size(self) -> float:
        if self.step is None:
            return 1 if self.low == self.high else math.inf
        return int((self.high - self.low) / self.step + 1e-9) + 1

    @property
    def values(self) -> tuple[float, ...]:
        """All of them; for ranges with a step."""
        return tuple(self._value(i) for i in range(int(self.size)))

    def draw(self, share: float) -> float:
        """The value at a share, from 0 to below 1, of the range."""
        if self.log:
            drawn = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        elif self.step is None:
            drawn = self.low + share * (self.high - self.low)
        else:
            return self._value(int(share * self.size))
        drawn = round(drawn) if self.whole else float(f"{drawn:.{SIGNIFICANT_DIGITS}g}")
        return min(max(drawn, self.low), self.high)

    def _value(self, index: int) -> float:
        value = self.low + index * self.step
        return value if self.whole else round(value, 12)


Space = tuple[Choice | Range, ...]


def read(config: Config) -> Space:
    """What a config searches.

    Raises:
        KftError: every mistake in the table: names, values that the settings do not take, and
        conflicts between them.
    """
    items = list(_flat(config.tune.space))
    problems = [problem for name, value in items for problem in _problems(config, name, value)]
    if not items:
        problems = ["`tune` names nothing to search"]
    names = [name for name, _ in items]
    problems += [f"`tune`: `{name}` is listed twice" for name in {n for n in names if names.count(n) > 1}]
    if config.tune.seeds and "train.seed" in names:
        problems.append("`tune.seeds` and a search over `train.seed` exclude each other")
    if problems:
        raise _mistake(problems)
    space = tuple(_parameter(config, name, value) for name, value in items)
    if config.tune.method == "grid":
        endless = [p.name for p in space if p.size == math.inf]
        if endless:
            raise _mistake([f"`tune.{name}`: a grid needs a list or a `step`" for name in endless])
    conflicts = dict.fromkeys(
        line for point in _some_points(config, space) for line in _conflicts(config, point)
    )
    if conflicts:
        raise _mistake(list(conflicts))
    return space


def points(config: Config, space: Space) -> list[Point]:
    """The point of each trial; empty ones for tpe, which chooses them on the way.

    A random search draws from one stream, without repeating itself: the points of fewer trials are
    the first of those of more.
    """
    tune = config.tune
    if tune.method == "grid":
        return list(_grid(space))
    count = int(min(tune.trials, math.prod(p.size for p in space)))
    if tune.method == "tpe":
        return [{} for _ in range(tune.trials)]
    return list(itertools.islice(_random(space, tune.seed), count))


def _grid(space: Space) -> Iterator[Point]:
    for values in itertools.product(*(p.values for p in space)):
        yield {p.name: value for p, value in zip(space, values, strict=True)}


def _random(space: Space, seed: int) -> Iterator[Point]:
    """Different points without end; of a finite space as many as there are."""
    stream, seen = np.random.RandomState(seed), set()  # NumPy promises that this stream never changes
    total = math.prod(p.size for p in space)
    while len(seen) < total:
        point = {p.name: p.draw(stream.random_sample()) for p in space}
        key = json.dumps(point)
        if key not in seen:
            seen.add(key)
            yield point


def _some_points(config: Config, space: Space) -> Iterator[Point]:
    if config.tune.method == "grid":
        return itertools.islice(_grid(space), CHECKED_POINTS)
    wanted = min(config.tune.trials, math.prod(p.size for p in space), CHECKED_POINTS)
    return itertools.islice(_random(space, config.tune.seed), int(wanted))


def _conflicts(config: Config, point: Point) -> list[str]:
    try:
        configs.change(config, point)
    except KftError as error:
        listing = ", ".join(f"{name} = {json.dumps(value)}" for name, value in point.items())
        return [f"{line.strip()}, in the trial {listing}" for line in error.message.splitlines()[1:]]
    return []


def _flat(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted names, whether the file has them in quotes or as tables."""
    sections = {name.split(".")[0] for name, *_ in configs.settings_table() if "." in name}
    for name, value in table.items():
        if name in sections and isinstance(value, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def _mistake(problems: list[str]) -> KftError:
    lines = "\n".join(f"  {problem}" for problem in problems)
    return KftError(f"what is searched: {len(problems)} to fix\n{lines}", HINT)


def _problems(config: Config, name: str, value: Any) -> Iterator[str]:
    types = configs.setting_types(name)
    if name.split(".")[0] == "tune":
        yield f"`{name}`: a search cannot search itself"
    elif name == "backend":
        yield "`tune.backend`: a study runs on one backend; make a study for each"
    elif types is None or name in {n.split(".")[0] for n, *_ in configs.settings_table() if "." in n}:
        known = [row[0] for row in configs.settings_table()]
        last = next((n for n in known if n.split(".")[-1] == name.split(".")[-1]), None)
        near = f", did you mean `{last}`?" if last else did_you_mean(name, [*TuneConfig.model_fields, *known])
        yield f"`tune.{name}`: `{name}` is not a setting{near}"
    elif isinstance(value, list):
        yield from _choice_problems(config, name, value)
    elif isinstance(value, dict):
        yield from _range_problems(config, name, value, types)
    else:
        yield f"`tune.{name}` must be a list of choices or a table of low and high, got: {value!r}"


def _choice_problems(config: Config, name: str, values: list[Any]) -> Iterator[str]:
    if not values:
        yield f"`tune.{name}` is an empty list"
    texts = [json.dumps(value, default=str) for value in values]
    if len(set(texts)) < len(texts):
        yield f"`tune.{name}` has a value twice: {', '.join(texts)}"
    for value in values:
        yield from (f"`tune.{name}`: {line}" for line in configs.refusals(config, name, value))


def _range_problems(config: Config, name: str, value: dict[str, Any], types: list[Any]) -> Iterator[str]:
    keys = ("low", "high", "step", "log")
    for key in (key for key in value if key not in keys):
        yield f"`tune.{name}`: a range has low, high, step and log, not {key!r}{did_you_mean(key, keys)}"
    if not {int, float} & set(types):
        yield f"`tune.{name}`: the setting is no number; list its choices"
        return
    if {"low", "high"} - set(value):
        yield f"`tune.{name}`: a range needs low and high"
        return
    low, high, step, log = (value.get(key) for key in keys)
    numbers = {"low": low, "high": high} | ({} if step is None else {"step": step})
    wrong = [
        k
        for k, v in numbers.items()
        if isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v)
    ]
    yield from (f"`tune.{name}`: {key} must be a number, got: {numbers[key]!r}" for key in wrong)
    if wrong:
        return
    if float not in types and not all(isinstance(v, int) for v in numbers.values()):
        yield f"`tune.{name}`: the setting takes whole numbers only"
        return
    if low > high:
        yield f"`tune.{name}`: low is {low}, above high, {high}"
    if not isinstance(log, bool | None):
        yield f"`tune.{name}`: log must be true or false, got: {log!r}"
    elif log and low <= 0:
        yield f"`tune.{name}`: log needs a low above 0, got: {low}"
    if log and step is not None:
        yield f"`tune.{name}`: step and log exclude each other"
    if step is not None and step <= 0:
        yield f"`tune.{name}`: step must be above 0, got: {step}"
    for end in dict.fromkeys((low, high)):
        yield from (f"`tune.{name}`: {line}" for line in configs.refusals(config, name, _typed(end, types)))


def _parameter(config: Config, name: str, value: Any) -> Choice | Range:
    if isinstance(value, list):
        return Choice(name, tuple(value))
    types = configs.setting_types(name)
    whole = float not in types
    log = bool(value.get("log"))
    step = value.get("step", 1 if whole else None)
    return Range(name, _typed(value["low"], types), _typed(value["high"], types), step, log, whole)


def _typed(number: float, types: list[Any]) -> float:
    return float(number) if float in types else number
