"""Examples of GLUE and SuperGLUE, from archives or TFDS → flat rows of texts, offsets, choices.

A raw example is a dictionary with TFDS's names; `nested` tells apart the examples of one line of a
SuperGLUE archive, and the functions of `ROWS` make of a raw example the rows that a config names:
one, or one for each choice.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

Raw = dict[str, Any]
COPA_QUESTIONS = {"cause": "What was the cause?", "effect": "What happened as a result?"}
PLACEHOLDER = "@placeholder"


def multirc_answers(line: Raw) -> Iterator[Raw]:
    """A passage of MultiRC → its answers."""
    for question in line["passage"]["questions"]:
        for answer in question["answers"]:
            yield {
                "paragraph": line["passage"]["text"],
                "question": question["question"],
                "answer": answer["text"],
                "label": answer.get("label"),
                "idx": {"paragraph": line["idx"], "question": question["idx"], "answer": answer["idx"]},
            }


def record_queries(line: Raw) -> Iterator[Raw]:
    """A passage of ReCoRD → its queries. The ends of entities are inclusive there."""
    text = line["passage"]["text"]
    entities = [text[entity["start"] : entity["end"] + 1] for entity in line["passage"]["entities"]]
    for query in line["qas"]:
        yield {
            "passage": text,
            "query": query["query"],
            "entities": list(dict.fromkeys(entities)),
            "answers": list(dict.fromkeys(answer["text"] for answer in query.get("answers") or [])),
            "idx": {"passage": line["idx"], "query": query["idx"]},
        }


def wsc_target(line: Raw) -> Iterator[Raw]:
    """A line of WSC, its target's fields beside the others."""
    yield {key: value for key, value in line.items() if key != "target"} | line["target"]


def multirc_rows(raw: Raw) -> Iterator[Raw]:
    """The passage, and a question with one of its answers: right or wrong by itself."""
    numbers = raw["idx"]
    yield {
        "text": raw["paragraph"],
        "text_pair": f"{raw['question']} {raw['answer']}",
        "label": raw["label"],
        "question": f"{numbers['paragraph']}-{numbers['question']}",
    } | {f"{key}_idx": int(numbers[key]) for key in ("paragraph", "question", "answer")}


def record_rows(raw: Raw) -> Iterator[Raw]:
    """The passage, and the query with each entity in its gap; a group has exactly one right entity.

    A query with several right spellings becomes as many groups; one without any, a group without
    labels.
    """
    right = [entity for entity in raw["entities"] if entity in raw["answers"]]
    wrong = [entity for entity in raw["entities"] if entity not in raw["answers"]]
    for number, answer in enumerate(right or [None]):
        for entity in raw["entities"] if answer is None else [answer, *wrong]:
            yield {
                "text": raw["passage"],
                "text_pair": raw["query"].replace(PLACEHOLDER, entity),
                "label": None if answer is None else str(int(entity == answer)),
                "group": f"{raw['idx']['passage']}-{raw['idx']['query']}-{number}",
                "entity": entity,
                "answers": raw["answers"],
                "passage_idx": int(raw["idx"]["passage"]),
                "query_idx": int(raw["idx"]["query"]),
            }


def copa_rows(raw: Raw) -> Iterator[Raw]:
    """The premise with its question, and each of the two choices."""
    for number, choice in enumerate((raw["choice1"], raw["choice2"])):
        question = COPA_QUESTIONS.get(raw["question"], raw["question"])
        label = None if raw["label"] is None else str(int(raw["label"] == f"choice{number + 1}"))
        yield {
            "text": f"{raw['premise']} {question}",
            "text_pair": choice,
            "label": label,
            "group": str(raw["idx"]),
            "idx": int(raw["idx"]),
            "option": number,
        }


def wic_rows(raw: Raw) -> Iterator[Raw]:
    """Two sentences with the characters of one word in each."""
    ends = {key: int(raw[key]) for key in ("start1", "end1", "start2", "end2")}
    yield (
        {"text": raw["sentence1"], "text_pair": raw["sentence2"], "word": raw["word"]}
        | ends
        | {
            "label": raw["label"],
            "idx": int(raw["idx"]),
        }
    )


def wsc_rows(raw: Raw) -> Iterator[Raw]:
    """A text with the characters of a noun and of a pronoun in it."""
    start1, end1 = word_span(raw["text"], raw["span1_text"], int(raw["span1_index"]))
    start2, end2 = word_span(raw["text"], raw["span2_text"], int(raw["span2_index"]))
    yield {
        "text": raw["text"],
        "start1": start1,
        "end1": end1,
        "start2": start2,
        "end2": end2,
        "label": raw["label"],
        "idx": int(raw["idx"]),
    }


def word_span(text: str, span: str, index: int) -> tuple[int, int]:
    """Begin and end, in characters, of a span whose first word has the number `index` (from 0).

    WSC counts words between white space, and a few of its indices are off by one or more, or the
    span differs in capitals or punctuation: then the whole-word occurrence nearest to the index
    counts, else the words at the index.
    """
    words = list(re.finditer(r"\S+", text))
    start = words[min(max(index, 0), len(words) - 1)].start()
    pattern = r"\s+".join(map(re.escape, span.split()))
    matches = [match.span() for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE)]
    if matches:
        return min(matches, key=lambda ends: abs(ends[0] - start))
    last = min(max(index, 0) + len(span.split()), len(words)) - 1
    return start, words[last].end()


NESTED: dict[str, Callable[[Raw], Iterator[Raw]]] = {
    "super_glue/multirc": multirc_answers,
    "super_glue/record": record_queries,
    "super_glue/wsc.fixed": wsc_target,
}
ROWS: dict[str, Callable[[Raw], Iterator[Raw]]] = {
    "super_glue/multirc": multirc_rows,
    "super_glue/record": record_rows,
    "super_glue/copa": copa_rows,
    "super_glue/wic": wic_rows,
    "super_glue/wsc.fixed": wsc_rows,
}
