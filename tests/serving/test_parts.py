"""The parts of an answer: in order, one open at a time, whatever pieces it comes in."""

import json
from dataclasses import replace

import pytest

from dsv4_tp.asks import Piece
from dsv4_tp.core import FinishReason
from dsv4_tp.prompts import BUILT_IN, Reading
from dsv4_tp.serving.parts import Closed, Grown, Kind, Opened, Parts, Step
from dsv4_tp.serving.said import Said
from tests.serving.test_app import END
from tests.serving.test_spoken import CALLS, CLOSING, STOP, said


def parts(*pieces: Piece, thinks: bool = False) -> tuple[Parts, list[Step]]:
    reading = Reading(BUILT_IN, thinking=thinks, calls=True)
    all_parts = Parts(Said(reading, thinks=thinks, closing=CLOSING), "c")
    steps = [step for piece in pieces for step in all_parts.add(piece)]
    return all_parts, steps


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_each_is_opened_grows_and_is_closed_before_the_next(size: int):
    pieces = said(*cut("so", size), "</think>", *cut("I add." + CALLS, size))
    found, steps = parts(*pieces, thinks=True)
    kinds = [part.kind for part in found.all]
    assert kinds == [Kind.THOUGHT, Kind.TEXT, Kind.CALL, Kind.CALL]
    assert [part.text for part in found.all[:2]] == ["so", "I add."]
    assert [json.loads(part.text) for part in found.all[2:]] == [{"a": 5, "b": 'x"y'}, {}]
    assert [part.call_id for part in found.all[2:]] == ["c_0", "c_1"]
    at = -1
    for step in steps:
        at += isinstance(step, Opened)
        assert step.part.index == at
    for part in found.all:
        own = [step for step in steps if step.part is part]
        assert isinstance(own[0], Opened)
        assert isinstance(own[-1], Closed)
        assert "".join(step.text for step in own if isinstance(step, Grown)) == part.text


def test_text_within_a_call_is_told_behind_it():
    stray = CALLS.replace('<｜DSML｜parameter name="b"', 'What?<｜DSML｜parameter name="b"')
    assert stray != CALLS
    found, steps = parts(*said(*cut(stray, 3)))
    kinds = [part.kind for part in found.all]
    assert kinds == [Kind.CALL, Kind.TEXT, Kind.CALL]
    assert json.loads(found.all[0].text) == {"a": 5, "b": 'x"y'}
    assert "What?" in found.all[1].text
    assert [step.part.index for step in steps] == sorted(step.part.index for step in steps)


def test_an_answer_that_is_cut_has_all_its_parts_closed():
    length = replace(STOP, finish=replace(END.finish, reason=FinishReason.LENGTH))
    found, steps = parts(Piece((2,), CALLS[:90], None), length)
    assert isinstance(steps[-1], Closed)
    assert json.loads(found.all[-1].text).keys() == {"a"}
