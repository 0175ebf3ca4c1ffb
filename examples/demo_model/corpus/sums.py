"""Arithmetic of one and two digits, with the steps that lead to the result."""

from random import Random

from examples.demo_model.corpus.pieces import count


def document(rng: Random, tokens: int) -> str:
    """Sums, one a line, until `tokens` tokens are written."""
    lines: list[str] = []
    length = 0
    while length < tokens:
        lines.append(_line(rng))
        length += count(lines[-1]) + 1
    return "\n".join(lines)


def problem(rng: Random) -> tuple[str, str, str]:
    """A question, the steps, the answer: "What is 27 + 15?", "7 + 5 = 12, ...", "27 + 15 = 42."."""
    kind = rng.random()
    if kind < 0.2:
        return _comparison(rng)
    digits = 1 if rng.random() < 0.4 else 2
    top = 10**digits
    first, second = rng.randrange(top), rng.randrange(top)
    if kind < 0.6:
        return _question(f"{first} + {second}", _carry(first, second), first + second)
    first, second = max(first, second), min(first, second)
    return _question(f"{first} - {second}", _borrow(first, second), first - second)


def _line(rng: Random) -> str:
    """One sum as it stands in a plain text: bare, as a question, or with its steps."""
    if rng.random() < 0.15:
        return _counting(rng)
    question, steps, answer = problem(rng)
    form = rng.random()
    if form < 0.3 and steps != answer:
        return f"{question} {steps} {answer}"
    if form < 0.7 or question.startswith("Which"):
        return f"{question} {answer}"
    return answer


def _question(term: str, steps: str, result: int) -> tuple[str, str, str]:
    return f"What is {term}?", steps, f"{term} = {result}."


def _carry(first: int, second: int) -> str:
    """The ones first, then the tens with what is carried."""
    ones = first % 10 + second % 10
    text = f"{first % 10} + {second % 10} = {ones}"
    if max(first, second) < 10:
        return f"{text}."
    return f"{text}, {first // 10} + {second // 10} + {ones // 10} = {(first + second) // 10}."


def _borrow(first: int, second: int) -> str:
    """The ones first, then the tens with what is borrowed."""
    low = first % 10 < second % 10
    ones = first % 10 + 10 * low
    text = f"{ones} - {second % 10} = {ones - second % 10}"
    if first < 10:
        return f"{text}."
    tens = first // 10 - second // 10 - low
    return f"{text}, {first // 10} - {second // 10} - {int(low)} = {tens}."


def _comparison(rng: Random) -> tuple[str, str, str]:
    first, second = rng.sample(range(100), 2)
    more = max(first, second)
    steps = f"{first // 10} and {second // 10}, {first % 10} and {second % 10}."
    return f"Which is more, {first} or {second}?", steps, f"{more} is more."


def _counting(rng: Random) -> str:
    start, step = rng.randrange(20), rng.choice((1, 1, 2, 5, 10))
    numbers = ", ".join(str(start + step * place) for place in range(6))
    return f"Numbers: {numbers}."
