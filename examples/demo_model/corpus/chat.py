"""Conversations in DeepSeek's role format, written with the constants of our encoding file."""

from collections.abc import Callable
from random import Random

from examples.demo_model import encoding_dsv4 as encoding
from examples.demo_model.corpus import facts, stories, sums
from examples.demo_model.corpus.pieces import count

_SYSTEM = (
    "You are a small demo model.",
    "You are a small demo model. Answer from the text.",
    "You help the user. Answer in one sentence.",
)
_WHO = (
    (
        "Who are you?",
        "I am a small demo model. I can tell stories, find facts and add numbers.",
    ),
    ("Hello!", "Hello! I am a small demo model. What is your question?"),
    ("What can you do?", "I can tell stories, find facts and add numbers."),
    ("Thank you!", "Thank you!"),
)
_TURN = 26  # tokens of a question and its answer, about
Turn = tuple[str, str, str]  # question, reasoning, answer


def user(text: str) -> str:
    """A user's message."""
    return encoding.USER_SP_TOKEN + encoding.user_msg_template.format(content=text)


def assistant(reasoning: str, content: str, calls: str = "", *, thinking: bool) -> str:
    """What opens the assistant's message, the message, and its end."""
    think = encoding.thinking_template.format(reasoning_content=reasoning)
    return opening(thinking=thinking) + encoding.assistant_msg_template.format(
        reasoning=think + encoding.thinking_end_token if thinking else "",
        content=content,
        tool_calls=calls,
    )


def opening(*, thinking: bool) -> str:
    """The assistant's token and the token that begins or skips its thoughts."""
    start = encoding.thinking_start_token if thinking else encoding.thinking_end_token
    return encoding.ASSISTANT_SP_TOKEN + start


def chat(rng: Random, tokens: int) -> str:
    """A conversation of about `tokens` tokens; it ends with the end token of its last answer."""
    thinking = rng.random() < 0.4
    parts = [encoding.REASONING_EFFORT_MAX] if thinking and rng.random() < 0.2 else []
    parts += [rng.choice(_SYSTEM)] if rng.random() < 0.3 else []
    left = tokens - sum(map(count, parts))
    turns = _lookups(rng, left) if rng.random() < 0.6 else _small_talk(rng, left)
    last = len(turns) - 1
    for place, (question, reasoning, answer) in enumerate(turns):
        think = thinking and place == last  # earlier thoughts are dropped from a prompt
        parts += [user(question), assistant(reasoning, answer, thinking=think)]
    return "".join(parts)


def lookup_turn(fact: facts.Fact) -> Turn:
    """The question for a fact, how to think about it, its answer."""
    asked = fact.question.removesuffix("?").split(" is ", 1)[1]
    return fact.question, f"The user asks for {asked}. {fact.statement}", fact.statement


def _lookups(rng: Random, tokens: int) -> list[Turn]:
    """A long message with facts and story in it, then a question in each turn."""
    questions = 1 + rng.randrange(max(2, tokens // 40))
    stated, text = _told(rng, tokens - _TURN * questions)
    asked = rng.choices(stated, k=questions) if len(stated) < questions else stated
    turns = [lookup_turn(fact) for fact in rng.sample(asked, questions)]
    question, reasoning, answer = turns[0]
    return [(f"{text} {question}", reasoning, answer), *turns[1:]]


def _told(rng: Random, room: int) -> tuple[list[facts.Fact], str]:
    """Facts with story between, `room` tokens or at least one fact."""
    supply, told = facts.facts(rng), stories.stories(rng)
    stated = [next(supply)]
    text = [stated[0].statement]
    length = count(text[0])
    crowd = rng.choice((0.2, 0.4, 0.7))
    while length < room:
        if rng.random() < crowd:
            stated.append(next(supply))
            text.append(stated[-1].statement)
        else:
            text.append(next(told))
        length += count(" " + text[-1])
    return stated, " ".join(text)


def _small_talk(rng: Random, tokens: int) -> list[Turn]:
    turns: list[Turn] = []
    left = tokens
    makers: tuple[Callable[[Random], Turn], ...] = (_sum, _sum, _tale, _who)
    while left > 0:
        turns.append(rng.choice(makers)(rng))
        left -= count("".join(turns[-1][::2])) + 4
    return turns


def _sum(rng: Random) -> Turn:
    return sums.problem(rng)


def _tale(rng: Random) -> Turn:
    subject, text = stories.about(rng)
    return f"Tell a story about {subject}.", f"The user wants a story about {subject}.", text


def _who(rng: Random) -> Turn:
    question, answer = rng.choice(_WHO)
    return question, "The user asks me.", answer
