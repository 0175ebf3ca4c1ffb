"""The judge of structured texts finds what is wrong, and nothing is with those of the results."""

import csv
import json
import random

import pytest

from tests.soak.schemas import random_schema
from tests.soak.structured import RESULTS, fault

SCHEMA = {"type": "object", "properties": {"a": {"format": "date"}}, "required": ["a"]}


@pytest.mark.parametrize("text", ["", "{", "{}", '{"a": "2026-13-01"}', '{"a": "2026-01-01"} x'])
def test_a_text_against_its_schema_is_seen(text: str):
    assert fault(text, SCHEMA) != ""
    assert fault('{"a": "2026-12-01"}', SCHEMA) == ""


def test_every_text_of_the_results_validates():
    with RESULTS.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) >= 200
    for line in lines:
        schema = random_schema(random.Random(int(line["case"])))
        assert json.loads(line["schema"]) == schema
        assert [fault(text, schema) for text in json.loads(line["texts"])] == ["", ""]
