"""How a conversation with the demo model is written as one text.

Read as constants, never run: every value is a literal. The fields in braces are filled by
`str.format`. Shipped as `encoding/encoding_dsv4.py` beside the model's weights.
"""

bos_token: str = "<｜begin▁of▁sentence｜>"
eos_token: str = "<｜end▁of▁sentence｜>"
thinking_start_token: str = "<think>"
thinking_end_token: str = "</think>"
dsml_token: str = "｜DSML｜"

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

system_msg_template: str = "{content}"
user_msg_template: str = "{content}"
latest_reminder_msg_template: str = "{content}"
assistant_msg_template: str = "{reasoning}{content}{tool_calls}" + eos_token
assistant_msg_wo_eos_template: str = "{reasoning}{content}{tool_calls}"
thinking_template: str = "{reasoning_content}"

response_format_template: str = "## Answer format\n\nThe answer is one JSON value of:\n{schema}"

tool_calls_block_name: str = "tool_calls"
tool_call_template: str = '<{dsml_token}invoke name="{name}">\n{arguments}\n</{dsml_token}invoke>'
tool_calls_template: str = (
    "<{dsml_token}{tc_block_name}>\n{tool_calls}\n</{dsml_token}{tc_block_name}>"
)
tool_output_template: str = "<tool_result>{content}</tool_result>"

TOOLS_TEMPLATE: str = """## Tools

A tool call:
<{dsml_token}tool_calls>
<{dsml_token}invoke name="tool">
<{dsml_token}parameter name="key" string="true">text</{dsml_token}parameter>
</{dsml_token}invoke>
</{dsml_token}tool_calls>
Write text with string="true" and numbers with string="false".
You may think: {thinking_start_token}text{thinking_end_token}

Tools:
{tool_schemas}
Use only the tools.
"""

REASONING_EFFORT_MAX: str = "You may think for a long time.\n\n"
