"""Conversations to and from messages of cluster.proto; like `convert`."""

from dataclasses import fields

from dsv4_tp.asks import Calls, Conversation, Message, ToolCall
from dsv4_tp.v1 import cluster_pb2 as pb

_CALL = tuple(each.name for each in fields(ToolCall))
_CALLS = tuple(each.name for each in fields(Calls))
_LISTS = ("tool_calls", "tools")
_VALUES = tuple(each.name for each in fields(Message) if each.name not in _LISTS)


def talk_to_proto(talk: Conversation) -> pb.Conversation:
    """The message of a conversation.

    Raises TypeError or ValueError for a value of another kind than its field.
    """
    messages = [_message_to_proto(each) for each in talk.messages]
    calls = talk.calls and pb.Calls(**{name: getattr(talk.calls, name) for name in _CALLS})
    return pb.Conversation(
        messages=messages, thinking=talk.thinking, effort=talk.effort, calls=calls
    )


def talk_from_proto(message: pb.Conversation) -> Conversation:
    """The conversation."""
    messages = tuple(_message_from_proto(each) for each in message.messages)
    calls = Calls(**{name: getattr(message.calls, name) for name in _CALLS})
    held = calls if message.HasField("calls") else None
    return Conversation(messages, message.thinking, message.effort, held)


def _message_to_proto(message: Message) -> pb.Message:
    calls = [
        pb.ToolCall(**{name: getattr(call, name) for name in _CALL}) for call in message.tool_calls
    ]
    values = {name: getattr(message, name) for name in _VALUES}
    return pb.Message(tool_calls=calls, tools=message.tools, **values)


def _message_from_proto(message: pb.Message) -> Message:
    calls = tuple(
        ToolCall(**{name: getattr(call, name) for name in _CALL}) for call in message.tool_calls
    )
    values = {name: getattr(message, name) for name in _VALUES}
    return Message(tool_calls=calls, tools=tuple(message.tools), **values)
