"""SQuAD documents, 1.1 and 2.0: articles of paragraphs, each with its questions, as rows.

https://rajpurkar.github.io/SQuAD-explorer: {"data": [{"title", "paragraphs": [{"context", "qas":
[{"id", "question", "answers": [{"text", "answer_start"}], "is_impossible"}]}]}]}. The
`plausible_answers` of questions without an answer are wrong on purpose, and are not read.
"""

from collections.abc import Iterator
from typing import Any

from kft.errors import KftError, first_rows

Row = dict[str, Any]
HINT = (
    'a SQuAD document is {"data": [{"title": "…", "paragraphs": [{"context": "…", "qas": [{"id": "…", "question": "…", '
    '"answers": [{"text": "…", "answer_start": 0}]}]}]}]}'
)


def is_squad(rows: list[Row]) -> bool:
    """Whether rows of a document are SQuAD's articles."""
    return bool(rows) and all(isinstance(row.get("paragraphs"), list) for row in rows)


def is_document(content: Any) -> bool:
    """Whether JSON is a SQuAD document."""
    rows = content.get("data") if isinstance(content, dict) else None
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows) and is_squad(rows)


def unfolded(rows: list[Row], name: str) -> list[Row]:
    """The rows; of SQuAD's articles one for each question: id, title, question, context, answers.

    `answers` is missing where a question has neither answers nor says that it has none.

    Raises:
        KftError: an article, a paragraph or a question lacks something; all at once.
    """
    if not is_squad(rows):
        return rows
    problems: list[str] = []
    questions = list(_questions(rows, name, problems))
    if problems:
        raise KftError(first_rows(problems), HINT)
    return questions


def _questions(articles: list[Row], name: str, problems: list[str]) -> Iterator[Row]:
    for a, article in enumerate(articles, 1):
        for p, paragraph in enumerate(article["paragraphs"], 1):
            where = f"{name}, article {a}, paragraph {p}"
            if not isinstance(paragraph, dict) or not isinstance(paragraph.get("context"), str):
                problems.append(f"{where}: has no `context` that is a text")
                continue
            if not isinstance(paragraph.get("qas"), list):
                problems.append(f"{where}: has no list `qas`")
                continue
            for q, question in enumerate(paragraph["qas"], 1):
                problem = _problem(question)
                if problem:
                    own = question.get("id") if isinstance(question, dict) else None
                    problems.append(f"{where}, question {q if own is None else own}: {problem}")
                    continue
                yield _row(question, article.get("title"), paragraph["context"])


def _problem(question: Any) -> str | None:
    if not isinstance(question, dict):
        return "must be an object"
    if not isinstance(question.get("question"), str):
        return "has no `question` that is a text"
    if not isinstance(question.get("answers", []), list):
        return "`answers` must be a list"
    if question.get("is_impossible") is True and question.get("answers"):
        return "is marked `is_impossible`, and has answers"
    return None


def _row(question: Row, title: Any, context: str) -> Row:
    row = {"id": question.get("id"), "title": title, "question": question["question"], "context": context}
    if question.get("is_impossible") is True:
        return row | {"answers": []}
    return row | ({"answers": question["answers"]} if "answers" in question else {})
