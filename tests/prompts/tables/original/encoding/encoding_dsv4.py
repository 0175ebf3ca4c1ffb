"""The shape of the file of the first revision, in other words. It must never be run."""

# fmt: off
import json
import re
from pathlib import Path
from typing import Any, Dict, List  # noqa: UP035 -- as such files have it

bos_token: str = "<｜begin▁of▁sentence｜>"
eos_token: str = "<｜end▁of▁sentence｜>"
thinking_start_token: str = "<think>"
thinking_end_token: str = "</think>"
dsml_token: str = "｜DSML｜"
"""A string that stands alone is a statement, too."""

USER_SP_TOKEN = "<｜User｜>"
ASSISTANT_SP_TOKEN = "<｜Assistant｜>"
LATEST_REMINDER_SP_TOKEN = "<｜latest_reminder｜>"

DS_TASK_SP_TOKENS = {
    "action": "<｜action｜>",
    "query": "<｜query｜>",
    "authority": "<｜authority｜>",
    "domain": "<｜domain｜>",
    "title": "<｜title｜>",
    "read_url": "<｜read_url｜>",
}
VALID_TASKS = set(DS_TASK_SP_TOKENS.keys())

system_msg_template: str = "{content}"
user_msg_template: str = "{content}"
latest_reminder_msg_template: str = "{content}"
assistant_msg_template: str = "{reasoning}{content}{tool_calls}" + eos_token
assistant_msg_wo_eos_template: str = "{reasoning}{content}{tool_calls}"
thinking_template: str = "{reasoning_content}"

response_format_template: str = "# Form\n\nAnswer as {{JSON}} of this form: " "{schema}"
tool_call_template: str = (
    "<{dsml_token}invoke name=\"{name}\">\n{arguments}\n</{dsml_token}invoke>"
)
tool_calls_template = (
    "<{dsml_token}{tc_block_name}>\n{tool_calls}\n" "</{dsml_token}{tc_block_name}>"
)
tool_calls_block_name: str = "tool_calls"

tool_output_template: str = (
    "<tool_result>{content}</tool_result>"
)

REASONING_EFFORT_MAX = (
    "Effort: the most.\n"
    "Think it through, and then once more.\n\n"
)

TOOLS_TEMPLATE = """# What you can call

Like this:
<{dsml_token}tool_calls>
<{dsml_token}invoke name="NAME">
<{dsml_token}parameter name="KEY" string="true|false">VALUE</{dsml_token}parameter>
</{dsml_token}invoke>
</{dsml_token}tool_calls>
Text as it is, all else as JSON such as {{"key": 1}}.
Thoughts go between {thinking_start_token} and {thinking_end_token}.

{tool_schemas}

These are all.
"""

Path(__file__).with_name("was_run").write_text("by whoever read it")


def to_json(value: Any) -> str:
    """Not called."""
    bos_token = "of a function's own"
    return bos_token + json.dumps(value, ensure_ascii=False)


class Parser:
    """Not made."""

    eos_token = re.compile("\d")  # noqa: W605 -- a warning of its own, when it is compiled


def encode(messages: List[Dict[str, Any]]) -> str:  # noqa: UP006
    """Not called."""
    return "".join(map(to_json, messages))
