"""Rows of task files in JSONL: texts by domain, and questions."""

import json

from turnout.tasks.question import Question


def text_row(identifier: str, domain: str, text: str) -> str:
    """A text, with its domain as subject too."""
    row = {"id": identifier, "domain": domain, "subject": domain, "text": text}
    return json.dumps(row, ensure_ascii=False) + "\n"


def question_row(question: Question) -> str:
    """A question with its choices, answer, subject and domain."""
    row = {"question": question.text, "choices": question.choices, "answer": question.answer}
    return json.dumps(row | {"subject": question.subject, "domain": question.domain}, ensure_ascii=False) + "\n"
