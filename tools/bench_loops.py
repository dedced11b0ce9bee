"""The loops of transformers' example scripts `run_ner` and `run_qa`, a block at a time.

Written anew as plain loops with these scripts' settings: labels at the first piece of a word; of a
question the context alone is cut, into windows of which each trains on the answer it holds whole;
fused AdamW, linear schedule, clipping at norm 1; prediction in the order of the data, from strings
to tags or answers, with the 20 best starts and ends of a window and answers of 30 tokens at most.
`padding` is "full" (max_length) or "dynamic" (longest of a batch).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl

LEARNING_RATE = 2e-5
EPOCHS = 3
BEST, ANSWER_TOKENS = 20, 30  # of run_qa's postprocessing


def evenly(costs: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` indices at evenly spaced ranks of cost, which stand for all; in random order."""
    order = np.lexsort((rng.random(len(costs)), costs))  # ties in random order
    ranks = (np.arange(count) + rng.random()) * len(costs) / count
    return rng.permutation(order[ranks.astype(np.int64)])


def train_rows(model, rows: list[dict], collate: Callable, sampler, job: Any, gate: Any) -> None:
    """The plain loop of transformers' Trainer over tokenized rows, until the gate ends it."""
    import torch
    from torch.utils.data import DataLoader
    from transformers import get_linear_schedule_with_warmup

    model.train()
    count, lengths = len(rows), [len(row["input_ids"]) for row in rows]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    steps = EPOCHS * math.ceil(count / job.batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.06 * steps), steps)
    rng = np.random.default_rng(job.seed)
    while True:
        wanted = gate.wait()
        order = list(sampler)
        batches = [order[i : i + job.batch_size] for i in range(0, count, job.batch_size)]
        costs = [max(lengths[i] for i in batch) * len(batch) for batch in batches]
        batches = [batches[i] for i in evenly(np.array(costs), wanted, rng)]
        gate.start()
        for batch in DataLoader(rows, batch_sampler=batches, collate_fn=collate):
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            model.zero_grad()
        gate.end(sum(map(len, batches)))


def _loaded(job: Any, kind: str, **settings):
    """A model with a new head, and its tokenizer."""
    import torch
    import transformers

    torch.manual_seed(job.seed)
    model = getattr(transformers, kind).from_pretrained(job.folder, **settings)
    return model, transformers.AutoTokenizer.from_pretrained(job.folder)


def _padding(padding: str) -> str | bool:
    return "max_length" if padding == "full" else False


def _batches(tokenizer, encoded: dict[str, list], job: Any, padding: str):
    """Batches of encoded rows in their order, as tensors."""
    keys = [key for key in encoded if key in tokenizer.model_input_names]
    how = "max_length" if padding == "full" else "longest"
    for i in range(0, len(encoded["input_ids"]), job.batch_size):
        columns = {key: encoded[key][i : i + job.batch_size] for key in keys}
        yield tokenizer.pad(columns, how, job.max_length, return_tensors="pt")


def _of_words(tokenizer, words: list[list[str]], job: Any, padding: str = "dynamic"):
    return tokenizer(
        words, is_split_into_words=True, truncation=True, max_length=job.max_length, padding=_padding(padding)
    )


def _first_pieces(word_ids: list[int | None]) -> list[bool]:
    before = [None, *word_ids[:-1]]
    return [word is not None and word != last for word, last in zip(word_ids, before, strict=True)]


def train_ner(padding: str, job: Any, gate: Any) -> None:
    from torch.utils.data import RandomSampler
    from transformers import DataCollatorForTokenClassification

    frame = pl.read_parquet(job.examples)
    words, tags = frame["split"].to_list(), frame["tags"].to_list()
    names = sorted({tag for row in tags for tag in row})
    model, tokenizer = _loaded(job, "AutoModelForTokenClassification", num_labels=len(names))
    encoded = _of_words(tokenizer, words, job, padding)
    rows = []
    for i, own in enumerate(tags):
        places = encoded.word_ids(i)
        labels = [
            names.index(own[word]) if first else -100
            for word, first in zip(places, _first_pieces(places), strict=True)
        ]
        rows.append({key: column[i] for key, column in encoded.items()} | {"labels": labels})
    collate = DataCollatorForTokenClassification(tokenizer)
    train_rows(model, rows, collate, RandomSampler(rows), job, gate)


def predict_ner(padding: str, job: Any, gate: Any) -> None:
    import torch

    frame = pl.read_parquet(job.examples)
    words, lengths = frame["split"].to_list(), frame["tokens"].to_numpy()
    names = sorted({tag for row in frame["tags"].to_list() for tag in row})
    model, tokenizer = _loaded(job, "AutoModelForTokenClassification", num_labels=len(names))
    model.eval()
    rng = np.random.default_rng(job.seed)
    while True:
        sample = [words[i] for i in evenly(lengths, gate.wait(), rng)]
        gate.start()
        encoded, best = _of_words(tokenizer, sample, job), []
        with torch.no_grad():
            for batch in _batches(tokenizer, encoded, job, padding):
                best += model(**batch).logits.argmax(-1).tolist()
        answers = []
        for i, row in enumerate(best):
            first = _first_pieces(encoded.word_ids(i))
            answers.append([names[tag] for tag, read in zip(row, first, strict=False) if read])
        gate.end(len(answers))


def of_questions(tokenizer, questions: list[str], contexts: list[str], job: Any, padding: str = "dynamic"):
    return tokenizer(
        questions,
        contexts,
        truncation="only_second",
        max_length=job.max_length,
        stride=job.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding=_padding(padding),
    )


def train_qa(padding: str, job: Any, gate: Any) -> None:
    from torch.utils.data import RandomSampler
    from transformers import DataCollatorWithPadding

    frame = pl.read_parquet(job.examples)
    model, tokenizer = _loaded(job, "AutoModelForQuestionAnswering")
    encoded = of_questions(tokenizer, frame["text"].to_list(), frame["text_pair"].to_list(), job, padding)
    rows = windows_of(tokenizer, encoded, frame.select("answer_start", "answer_end").rows())
    train_rows(model, rows, DataCollatorWithPadding(tokenizer), RandomSampler(rows), job, gate)


def windows_of(tokenizer, encoded, spans: list[tuple[int, int] | None]) -> list[dict[str, Any]]:
    """Rows to train on, with the places of the answer's first and last token.

    Args:
        tokenizer: that encoded.
        encoded: of `of_questions`.
        spans: first character of each question's answer and the one after the last; None without.
    """
    rows = []
    for i, n in enumerate(encoded["overflow_to_sample_mapping"]):
        inside = [sequence == 1 for sequence in encoded.sequence_ids(i)]
        start = end = 0
        if spans[n] is not None and any(inside):
            start, end = place(encoded["offset_mapping"][i], inside, *spans[n])
        row = {key: encoded[key][i] for key in tokenizer.model_input_names if key in encoded}
        rows.append(row | {"start_positions": start, "end_positions": end})
    return rows


def place(offsets: list, inside: list[bool], start: int, end: int) -> tuple[int, int]:
    """First and last token of an answer; the first of all where the window does not hold it."""
    tokens = [i for i, read in enumerate(inside) if read]
    if offsets[tokens[0]][0] > start or offsets[tokens[-1]][1] < end:
        return 0, 0
    first = max(i for i in tokens if offsets[i][0] <= start)
    last = min(i for i in tokens if offsets[i][1] >= end)
    return first, last


def predict_qa(padding: str, job: Any, gate: Any) -> None:
    import torch

    frame = pl.read_parquet(job.examples)
    questions, contexts = frame["text"].to_list(), frame["text_pair"].to_list()
    lengths = frame["tokens"].to_numpy()
    model, tokenizer = _loaded(job, "AutoModelForQuestionAnswering")
    model.eval()
    rng = np.random.default_rng(job.seed)
    while True:
        sample = evenly(lengths, gate.wait(), rng)
        gate.start()
        texts = [contexts[i] for i in sample]
        encoded = of_questions(tokenizer, [questions[i] for i in sample], texts, job)
        starts, ends = [], []
        with torch.no_grad():
            for batch in _batches(tokenizer, encoded, job, padding):
                outputs = model(**batch)
                starts += list(outputs.start_logits.numpy())
                ends += list(outputs.end_logits.numpy())
        gate.end(len(_answers(encoded, starts, ends, texts)))


def _answers(encoded, starts: list[np.ndarray], ends: list[np.ndarray], contexts: list[str]) -> list[str]:
    """The likeliest answer of each question over its windows."""
    best = [(-math.inf, 0, 0)] * len(contexts)
    for i, n in enumerate(encoded["overflow_to_sample_mapping"]):
        inside, offsets = encoded.sequence_ids(i), encoded["offset_mapping"][i]
        for score, first, last in pairs(starts[i], ends[i], inside, ANSWER_TOKENS):
            if score > best[n][0]:
                best[n] = (score, offsets[first][0], offsets[last][1])
    return [context[start:end] for context, (_, start, end) in zip(contexts, best, strict=True)]


def pairs(
    start: np.ndarray, end: np.ndarray, sequences: list[int | None], longest: int
) -> Iterator[tuple[float, int, int]]:
    """(score, first, last) of the best starts and ends of a window that may be an answer.

    Args:
        start, end: scores of its tokens, padding included.
        sequences: 1 of the tokens of the context.
        longest: tokens of an answer.
    """
    firsts, lasts = (np.argsort(-scores, kind="stable")[:BEST].tolist() for scores in (start, end))
    for first in firsts:
        for last in lasts:
            if last >= len(sequences) or first >= len(sequences):
                continue
            if sequences[first] == 1 == sequences[last] and 0 <= last - first < longest:
                yield float(start[first] + end[last]), first, last
