"""LlamaIndex's and SQuAD's JSON: what is read strictly is what json.loads reads; else an error that names the place."""

import json
from random import Random
from typing import Any

from tests.fuzz.importing import Content, Grades, Table, checked
from tests.fuzz.mutating import mutated_json

Pairs = list[tuple[str, Any]]


def check(data: bytes) -> None:
    content = checked({"set.json": data})
    if content is not None:
        document = json.loads(data, object_pairs_hook=list)
        tables = dict(reversed([(key, value) for key, value in document if _is_object(value)]))
        if {"queries", "corpus", "relevant_docs"} & {key for key, _ in document}:
            assert (content.queries, content.documents) == (dict(tables["queries"]), dict(tables["corpus"]))
            assert content.grades == _grades(tables["relevant_docs"])
        else:
            _check_squad(content, [value for key, value in document if key == "data"])


def mutate(data: bytes, pick: Random) -> bytes | None:
    return mutated_json(data, pick)


def _is_object(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(pair, tuple) for pair in value)


def _grades(judged: Pairs) -> Grades:
    grades: Grades = {}
    for query, documents in judged:
        grades.setdefault(query, {}).update(dict.fromkeys(documents, 1))
    return grades


def _check_squad(content: Content, data: list[Any]) -> None:
    articles = [dict(article) for articles in data if isinstance(articles, list) for article in articles]
    paragraphs = [dict(paragraph) for article in articles for paragraph in article["paragraphs"]]
    questions: Table = {}
    for paragraph in paragraphs:
        questions |= {row["id"]: row["question"] for row in map(dict, paragraph["qas"])}
    assert content.queries == questions
    assert sorted(content.documents.values()) == sorted({paragraph["context"] for paragraph in paragraphs})
