"""What a checkpoint's makers say of how a conversation is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from dsv4_tp.prompts.constants import Constants

FILE = "encoding/encoding_dsv4.py"


@dataclass(frozen=True, slots=True)
class Table:
    """The constants of `encoding/encoding_dsv4.py`. Templates have the fields of `str.format`."""

    bos_token: str
    eos_token: str
    thinking_start_token: str
    thinking_end_token: str
    dsml_token: str
    user_token: str
    assistant_token: str
    latest_reminder_token: str
    task_tokens: Mapping[str, str]  # of each quick task
    system_template: str  # content
    user_template: str  # content
    latest_reminder_template: str  # content
    assistant_template: str  # reasoning, content, tool_calls; ends with EOS
    open_assistant_template: str  # the same without EOS
    thinking_template: str  # reasoning_content
    response_format_template: str  # schema
    tool_call_template: str  # dsml_token, name, arguments
    tool_calls_template: str  # dsml_token, tc_block_name, tool_calls
    tool_calls_block_name: str
    tool_output_template: str  # content
    tools_template: str  # dsml_token, thinking_start_token, thinking_end_token, tool_schemas
    effort_words: Mapping[str, str]  # of low, high and max: what follows BOS
    default_effort: str


# What every DeepSeek-V4 has. It is enough for a conversation of plain turns; check.py refuses more.
BUILT_IN = Table(
    bos_token="<｜begin▁of▁sentence｜>",
    eos_token="<｜end▁of▁sentence｜>",
    thinking_start_token="<think>",
    thinking_end_token="</think>",
    dsml_token="｜DSML｜",
    user_token="<｜User｜>",
    assistant_token="<｜Assistant｜>",
    latest_reminder_token="",
    task_tokens={},
    system_template="{content}",
    user_template="{content}",
    latest_reminder_template="",
    assistant_template="{reasoning}{content}{tool_calls}<｜end▁of▁sentence｜>",
    open_assistant_template="{reasoning}{content}{tool_calls}",
    thinking_template="{reasoning_content}",
    response_format_template="",
    tool_call_template="",
    tool_calls_template="",
    tool_calls_block_name="",
    tool_output_template="",
    tools_template="",
    effort_words={},
    default_effort="",
)

_TOKENS = {
    "bos_token": "bos_token",
    "eos_token": "eos_token",
    "thinking_start_token": "thinking_start_token",
    "thinking_end_token": "thinking_end_token",
    "dsml_token": "dsml_token",
    "USER_SP_TOKEN": "user_token",
    "ASSISTANT_SP_TOKEN": "assistant_token",
    "LATEST_REMINDER_SP_TOKEN": "latest_reminder_token",
    "tool_calls_block_name": "tool_calls_block_name",
}
_TEMPLATES = {
    "system_msg_template": ("system_template", "content"),
    "user_msg_template": ("user_template", "content"),
    "latest_reminder_msg_template": ("latest_reminder_template", "content"),
    "assistant_msg_template": ("assistant_template", "reasoning content tool_calls"),
    "assistant_msg_wo_eos_template": ("open_assistant_template", "reasoning content tool_calls"),
    "thinking_template": ("thinking_template", "reasoning_content"),
    "response_format_template": ("response_format_template", "schema"),
    "tool_call_template": ("tool_call_template", "dsml_token name arguments"),
    "tool_calls_template": ("tool_calls_template", "dsml_token tc_block_name tool_calls"),
    "tool_output_template": ("tool_output_template", "content"),
    "TOOLS_TEMPLATE": (
        "tools_template",
        "dsml_token thinking_start_token thinking_end_token tool_schemas",
    ),
}
_TASKS = "DS_TASK_SP_TOKENS"
_EFFORTS = ("low", "high", "max")


def read_table(model_dir: Path) -> Table | None:
    """The table of the checkpoint in `model_dir`; None where it has no folder `encoding`.

    The file is read as constants, never run.

    Raises:
        ModelError: the file cannot be read, or a constant is missing or of another form; names
            file, constant and what was found.
    """
    file = model_dir / FILE
    if not file.parent.exists():
        return None
    constants = Constants(file)
    texts = {attribute: _token(constants, name) for name, attribute in _TOKENS.items()}
    for name, (attribute, fields) in _TEMPLATES.items():
        texts[attribute] = _template(constants, name, set(fields.split()))
    efforts, default = _efforts(constants)
    tasks = _tasks(constants)
    return Table(**texts, task_tokens=tasks, effort_words=efforts, default_effort=default)


def _token(constants: Constants, name: str) -> str:
    token = constants.text(name)
    if not token:
        raise constants.wrong(name, "a token", "an empty string")
    return token


def _template(constants: Constants, name: str, fields: set[str]) -> str:
    template = constants.text(name)
    wish = f"a template with {', '.join(f'{{{field}}}' for field in sorted(fields))}"
    try:
        found = {field for field in _fields(template) if field is not None}
    except ValueError as error:
        raise constants.wrong(name, wish, f"one that is not well formed ({error})") from error
    if unknown := sorted(found - fields):
        raise constants.wrong(name, wish, f"{{{unknown[0]}}}")
    if missing := sorted(fields - found):
        raise constants.wrong(name, wish, f"none of {{{missing[0]}}}")
    return template


def _fields(template: str) -> list[str | None]:
    """The fields as they are written, with what would change how a value is shown."""
    return [
        name and f"{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}"
        for _, name, spec, conversion in Formatter().parse(template)
    ]


def _tasks(constants: Constants) -> dict[str, str]:
    tokens = constants.texts(_TASKS)
    for name, token in tokens.items():
        if not token:
            raise constants.wrong(_TASKS, f"a token for {name!r}", "an empty string")
    return tokens


def _efforts(constants: Constants) -> tuple[dict[str, str], str]:
    """What each effort adds, and the default. Two generations of the model differ in this."""
    words, default = "REASONING_EFFORT_PROMPTS", "DEFAULT_REASONING_EFFORT"
    if words not in constants:
        # Nothing lower than the default was trained then, so low is the default.
        return {"low": "", "high": "", "max": constants.text("REASONING_EFFORT_MAX")}, "high"
    efforts = constants.texts(words)
    if set(efforts) != set(_EFFORTS):
        found = ", ".join(efforts) or "none"
        raise constants.wrong(words, f"the keys {', '.join(_EFFORTS)}", found)
    if (effort := constants.text(default)) not in efforts:
        raise constants.wrong(default, f"one of {', '.join(efforts)}", repr(effort))
    return efforts, effort
