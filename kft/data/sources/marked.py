"""The characters that `data.spans` marks in a text: whole numbers that stand inside it."""

import polars as pl

from kft.errors import KftError, first_rows


def with_offsets(frame: pl.DataFrame, name: str, spans: list[list[str | int]] | None) -> pl.DataFrame:
    """The frame with its columns of offsets as Int64.

    Args:
        frame: text, text_pair and, as strings, the columns that the spans name.
        name: the file, for messages.
        spans: (text, start column, end column); offsets count Unicode code points from 0, the end
            is exclusive.

    Raises:
        KftError: offsets that are no whole numbers or not in their text, all at once.
    """
    if not spans:
        return frame
    ends = list(dict.fromkeys(str(end) for _, *ends in spans for end in ends))
    numbers = frame.with_columns(pl.col(ends).cast(pl.String).str.strip_chars().cast(pl.Int64, strict=False))
    problems = [problem for span in spans for problem in _problems(frame, numbers, name, *map(str, span))]
    if problems:
        raise KftError(
            first_rows(problems),
            "offsets count Unicode characters from 0, not bytes or words; the end is the first character after the span",
        )
    return numbers


def marked_texts(frame: pl.DataFrame, spans: list[list[str | int]] | None) -> pl.DataFrame:
    """The frame with signs around each span: texts are equal where the marked words are too."""
    for text in ("text", "text_pair"):
        ends = [list(map(str, ends)) for name, *ends in spans or [] if name == text]
        if ends:
            columns = [frame[c].to_list() for pair in ends for c in pair]
            rows = zip(frame[text].to_list(), *columns, strict=True)
            frame = frame.with_columns(pl.Series(text, [_mark(*row) for row in rows], pl.String))
    return frame


def _mark(text: str | None, *places: int | None) -> str | None:
    if text is None or None in places:
        return text
    # NUL and a private character: what a text holds by chance is hardly this.
    signs = sorted(((place, chr(0xE000 + i)) for i, place in enumerate(places)), reverse=True)
    for place, sign in signs:
        text = f"{text[:place]}\0{sign}{text[place:]}"
    return text


def _problems(
    frame: pl.DataFrame, numbers: pl.DataFrame, name: str, text: str, start: str, end: str
) -> list[str]:
    """What is wrong with one span, a line for each row.

    A row without the text is dropped later, so it may hold any.
    """
    length = pl.col(text).str.len_chars()
    checked = numbers.select(
        start=pl.col(start),
        end=pl.col(end),
        length=length,
        number=pl.col(start).is_not_null() & pl.col(end).is_not_null(),
        inside=(pl.col(start) >= 0) & (pl.col(start) < pl.col(end)) & (pl.col(end) <= length),
        text=pl.col(text).fill_null("").str.strip_chars() != "",
    )
    wrong = checked.select((pl.col("text") & ~(pl.col("number") & pl.col("inside"))).arg_true()).to_series()
    problems = []
    for row in wrong.to_list():
        where = f"{name}, row {row + 1}"
        for column in (c for c in (start, end) if numbers[c][row] is None):
            problems.append(f"{where}: `{column}` must be a whole number, got: {frame[column][row]!r}")
        if checked["number"][row]:
            s, e, n = (checked[c][row] for c in ("start", "end", "length"))
            why = "holds no character" if s >= e else f"does not stand in the {n} characters of `{text}`"
            problems.append(f"{where}: the span from {s} to {e} (`{start}`, `{end}`) {why}")
    return problems
