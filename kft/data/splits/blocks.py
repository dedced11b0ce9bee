"""Rows that never part between splits (of one text, question or group), and their balance."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from kft.data.splits.cleaning import GROUP, MOMENT, TOGETHER
from kft.later import Later

sparse, csgraph = Later("scipy.sparse"), Later("scipy.sparse.csgraph")
BLOCK = "_block"


def blocks(train: pl.DataFrame) -> pl.DataFrame:
    """One row for each block of rows that stay together, in the order of their first rows.

    Args:
        train: clean rows with keys.

    Returns:
        BLOCK: number of the block; key: what a hash of it is of, its group or its text; label: of
        its first row; labels: all of them, one for each row; rows: their number; moment: of its
        latest row, where rows have times.
    """
    key = pl.coalesce(GROUP, TOGETHER).min() if GROUP in train.columns else pl.col(TOGETHER).first()
    moment = [pl.col(MOMENT).max().alias("moment")] if MOMENT in train.columns else []
    return (
        train.with_columns(block_of(train))
        .group_by(BLOCK, maintain_order=True)
        .agg(
            key.alias("key"),
            pl.col("label").first(),
            pl.col("label").alias("labels"),
            pl.len().alias("rows"),
            *moment,
        )
    )


def block_of(train: pl.DataFrame) -> pl.Series:
    """Number of each row's block. A text that stands in two groups joins them."""
    ranks = train.select((pl.col(TOGETHER, *{GROUP} & {*train.columns}).rank("dense") - 1).cast(pl.Int64))
    texts = ranks[TOGETHER].to_numpy()
    if GROUP not in train.columns:
        return pl.Series(BLOCK, texts)
    grouped = ranks[GROUP].is_not_null().to_numpy()
    places = (texts[grouped], ranks[GROUP].drop_nulls().to_numpy() + texts.max(initial=0) + 1)
    size = max(texts.max(initial=0), places[1].max(initial=0)) + 1
    links = sparse.coo_array((np.ones(len(places[0]), bool), places), shape=(size, size))
    _, component = csgraph.connected_components(links, directed=False)
    return pl.Series(BLOCK, component[texts].astype(np.int64))


def balanced(labels: Sequence[Sequence[str]], shares: Sequence[float], order: Sequence[int]) -> list[int]:
    """Part of each block, so that parts are near their shares of the rows of every label.

    Blocks come in the given order, each to the part where the sum of (rows - wanted)² / wanted over
    its labels grows least (as chi-square); a block larger than what a part wants goes to the
    largest one.

    Args:
        labels: of each block, the label of each of its rows.
        shares: of each part, adding up to 1.
        order: of the blocks.
    """
    names, ids = np.unique([label for block in labels for label in block], return_inverse=True)
    ends = np.cumsum([len(block) for block in labels])
    wanted = np.maximum(np.outer(shares, np.bincount(ids, minlength=len(names))), 1e-9)  # [parts, labels]
    placed = np.zeros_like(wanted)
    parts = [0] * len(labels)
    for block in order:
        own, rows = np.unique(ids[ends[block] - len(labels[block]) : ends[block]], return_counts=True)
        short = wanted[:, own] - placed[:, own]
        growth = (rows * (rows - 2 * short) / wanted[:, own]).sum(axis=1)
        parts[block] = int(growth.argmin())
        placed[parts[block], own] += rows
    return parts
