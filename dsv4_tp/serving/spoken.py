"""What /v1/chat/completions answers: thinking, text and calls apart, streamed or whole."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from dsv4_tp.asks import Logprob, Piece
from dsv4_tp.prompts import CallArguments, CallBegun, Content, Delta, Reasoning
from dsv4_tp.serving.answers import Answers, Json
from dsv4_tp.serving.chat import ChatRequest
from dsv4_tp.serving.choices import Pieces, usage
from dsv4_tp.serving.said import Said


class Choice:
    """One answer in the making."""

    def __init__(self, said: Said, call_id: str) -> None:
        """Calls are `call_id` and a number."""
        self.said = said
        self._call_id = call_id
        self.reasoning, self.content = "", ""
        self.calls: list[Json] = []
        self.logprobs: list[tuple[int, Logprob]] = []  # of what was said behind the thinking

    def add(self, piece: Piece) -> list[Json]:
        """What this piece adds to the message, each a `delta`."""
        likely = zip(piece.tokens, piece.logprobs, strict=False)
        self.logprobs += [*likely][self.said.thought(piece) :]
        return [self._told(each) for each in self.said.add(piece)]

    @property
    def reason(self) -> str | None:
        """Why it has ended."""
        if self.said.finish is None:
            return None
        return "tool_calls" if self.said.waits else self.said.finish.reason.value

    def message(self) -> Json:
        """All of it."""
        content = self.content or (None if self.calls else "")
        said: Json = {"role": "assistant", "content": content, "refusal": None}
        if self.reasoning:
            said["reasoning_content"] = self.reasoning
        if self.calls:
            said["tool_calls"] = self.calls
        return said

    def _told(self, delta: Delta) -> Json:
        match delta:
            case Reasoning(text=text):
                self.reasoning += text
                return {"reasoning_content": text}
            case Content(text=text):
                self.content += text
                return {"content": text}
            case CallBegun(index=index, name=name):
                call_id = f"{self._call_id}_{index}"
                function = {"name": name, "arguments": ""}
                call = {"id": call_id, "type": "function", "function": function}
                self.calls.append(call)
                return {"tool_calls": [{"index": index, **call, "function": {**function}}]}
            case CallArguments(index=index, text=text):
                self.calls[index]["function"]["arguments"] += text
                return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


class Speaking(Answers):
    """The answers to one request, in OpenAI's words."""

    def __init__(
        self,
        name: str,
        request_id: str,
        asked: ChatRequest,
        word: Callable[[int], str],
        choices: list[Choice],
    ) -> None:
        """`name` of the model; `word` is a token by itself."""
        self._head: Json = {
            "id": f"chatcmpl-{request_id}",
            "created": int(time.time()),
            "model": name,
        }
        self._asked = asked
        self._word = word
        self._choices = choices

    async def whole(self, pieces: Pieces) -> Json:
        """All of them."""
        async with aclosing(pieces):
            async for number, piece in pieces:
                self._choices[number].add(piece)
        choices = [
            {
                "index": number,
                "message": choice.message(),
                "logprobs": self._logprobs(choice),
                "finish_reason": choice.reason,
            }
            for number, choice in enumerate(self._choices)
        ]
        return self._head | {
            "object": "chat.completion",
            "choices": choices,
            "usage": self._usage(),
        }

    async def chunks(self, pieces: Pieces) -> AsyncGenerator[Json]:
        """As they come, and at the end what they cost if that is asked for."""
        begun: set[int] = set()
        async with aclosing(pieces):
            async for number, piece in pieces:
                choice = self._choices[number]
                deltas = choice.add(piece)
                if number not in begun:
                    begun.add(number)
                    yield self._chunk(number, {"role": "assistant", "content": ""})
                for delta in deltas:
                    likely = self._taken(choice) if "content" in delta else None
                    yield self._chunk(number, delta, likely)
                if piece.finish:
                    yield self._chunk(number, {}, self._taken(choice), choice.reason)
        if self._asked.wants_usage:
            yield self._head | {
                "object": "chat.completion.chunk",
                "choices": [],
                "usage": self._usage(),
            }

    def _chunk(
        self, number: int, delta: Json, logprobs: Json | None = None, reason: str | None = None
    ) -> Json:
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        asked: Json = {"usage": None} if self._asked.wants_usage else {}
        return self._head | {"object": "chat.completion.chunk", "choices": [choice]} | asked

    def _taken(self, choice: Choice) -> Json | None:
        """Log-probabilities that were not told yet."""
        if not choice.logprobs:
            return None
        told = self._logprobs(choice)
        choice.logprobs.clear()
        return told

    def _logprobs(self, choice: Choice) -> Json | None:
        if not self._asked.logprobs:
            return None
        content = [
            self._likely(token, each.logprob)
            | {"top_logprobs": [self._likely(*other) for other in each.top]}
            for token, each in choice.logprobs
        ]
        return {"content": content, "refusal": None}

    def _likely(self, token: int, logprob: float) -> Json:
        word = self._word(token)
        return {"token": word, "logprob": logprob, "bytes": [*word.encode()]}

    def _usage(self) -> Json:
        costs = [choice.said.finish.stats for choice in self._choices if choice.said.finish]
        thought = sum(choice.said.reasoning_tokens for choice in self._choices)
        return usage(costs) | {"completion_tokens_details": {"reasoning_tokens": thought}}
