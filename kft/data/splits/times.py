"""Splits by time: the latest rows are test, those before them validation: no model sees ahead."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

import numpy as np
import polars as pl

from kft.data.splits.cleaning import MOMENT, TIME
from kft.errors import KftError

SHOWN_PROBLEMS = 5


def with_moments(train: pl.DataFrame, column: str | int, name: str) -> pl.DataFrame:
    """The frame with MOMENT, the rank of each row's time: numbers, or dates (local ones as UTC).

    Args:
        train: has the column TIME as strings.
        column: what the config calls it.
        name: what messages call the frame.

    Raises:
        KftError: times that are neither all numbers nor all dates; the first of them.
    """
    written = [text or "" for text in train[TIME]]
    for parse in (_number, _date):
        times = [parse(text.strip()) for text in written]
        if any(time is not None for time in times):
            break
    wrong = [row for row, time in enumerate(times) if time is None]
    if wrong:
        lines = [
            f"{name}, row {train['id'][row] + 1}: no time in `{column}`: {written[row]!r}"
            for row in wrong[:SHOWN_PROBLEMS]
        ]
        more = len(wrong) - SHOWN_PROBLEMS
        raise KftError(
            "\n".join(lines + ([f"and {more:,} more such rows"] if more > 0 else [])),
            "`split.time` names a column of numbers, or of dates such as 2024-03-31 or 2024-03-31T12:00:00Z; mend or leave "
            "out the rows",
        )
    ranks = {time: rank for rank, time in enumerate(sorted(set(times)))}
    return train.with_columns(pl.Series(MOMENT, [ranks[time] for time in times], pl.Int64))


def by_time(times: list[float], rows: list[int], shares: dict[str, float]) -> list[str]:
    """Place of each block: the latest are test, those before them validation; equal times together.

    Args:
        times: of each block.
        rows: of each block.
        shares: of validation and test.
    """
    moments, number = np.unique(times, return_inverse=True)
    size = np.bincount(number, rows)
    after = size[::-1].cumsum()[::-1]  # [moments] rows from this moment on
    total = after[0]
    test = _first_moment(after, total * shares["test"]) if shares["test"] else len(moments)
    held_out = total * (shares["test"] + shares["validation"])
    validation = min(_first_moment(after, held_out), test - 1) if shares["validation"] else test
    places = np.where(number >= test, "test", np.where(number >= validation, "validation", "train"))
    return places.tolist()


def beginnings(parts: dict[str, pl.DataFrame]) -> dict[str, dict[str, int | str]]:
    """Of validation and test the first time, as its file writes it, and its rows; for data.json."""
    result = {}
    for name in ("validation", "test"):
        if name in parts and parts[name].height:
            first = parts[name].filter(pl.col(MOMENT) == pl.col(MOMENT).min())
            result[name] = {"from": first[TIME][0], "rows_of_that_time": first.height}
    return result


def _first_moment(after: np.ndarray, wanted: float) -> int:
    """The moment from which on there are about so many rows, and one moment at least."""
    return int(np.abs(after - wanted).argmin()) if len(after) else 0


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _date(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
