"""The table of a checkpoint: read as constants, never run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dsv4_tp import demo
from dsv4_tp.errors import ModelError
from dsv4_tp.prompts import Table, read_table
from dsv4_tp.prompts.table import FILE
from tests.prompts.conversations import TABLES, table_of

REVISIONS = ("original", "later")


def checkpoint(folder: Path, revision: str = "original") -> Path:
    """A copy of the revision's file, where it would have its effect."""
    shutil.copytree(TABLES / revision, folder, dirs_exist_ok=True)
    return folder


def changed(folder: Path, old: str, new: str, revision: str = "original") -> Path:
    """A checkpoint whose file says something else."""
    file = checkpoint(folder, revision) / FILE
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")
    return folder


def with_line(folder: Path, line: str) -> Path:
    """A checkpoint whose file has one more line at the end."""
    file = checkpoint(folder) / FILE
    file.write_text(file.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    return folder


def refusal(folder: Path) -> str:
    """Why a table is refused; names the file and the next step."""
    with pytest.raises(ModelError) as caught:
        read_table(folder)
    message = str(caught.value)
    assert message.startswith(str(folder / FILE))
    assert message.endswith("; take the file as DeepSeek released it")
    return message


def test_a_checkpoint_without_the_folder_has_no_table(tmp_path: Path):
    assert read_table(tmp_path) is None


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_constant_is_taken(revision: str):
    table = table_of(revision)
    assert table.bos_token == "<｜begin▁of▁sentence｜>"
    assert table.latest_reminder_token == "<｜latest_reminder｜>"
    assert table.dsml_token == "｜DSML｜"
    assert table.tool_calls_block_name == "tool_calls"
    assert table.task_tokens["read_url"] == "<｜read_url｜>"
    assert len(table.task_tokens) == 6
    assert table.open_assistant_template == "{reasoning}{content}{tool_calls}"


def test_names_and_literals_are_concatenated():
    table = table_of("original")
    assert table.assistant_template == "{reasoning}{content}{tool_calls}<｜end▁of▁sentence｜>"
    assert table.tool_calls_template.endswith("\n</{dsml_token}{tc_block_name}>")
    assert table_of("later").effort_words["max"].startswith("Effort: all there is.\nThink")


def test_the_original_revision_has_words_for_max_only():
    table = table_of("original")
    most = "Effort: the most.\nThink it through, and then once more.\n\n"
    assert table.effort_words == {"low": "", "high": "", "max": most}
    assert table.default_effort == "high"


def test_the_later_revision_has_words_for_high_and_max():
    table = table_of("later")
    assert table.effort_words["low"] == ""
    assert table.effort_words["high"] == "Effort: much.\nThink it through.\n\n"
    assert table.default_effort == "low"


def test_the_demo_model_has_a_table():
    table = read_table(demo.path())
    assert isinstance(table, Table)
    assert table.effort_words["max"]


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_file_is_never_run(tmp_path: Path, revision: str):
    folder = checkpoint(tmp_path, revision)
    read_table(folder)
    assert [file.name for file in (folder / "encoding").iterdir()] == [Path(FILE).name]


def test_it_would_be_noticed_if_the_file_were_run(tmp_path: Path):
    file = checkpoint(tmp_path) / FILE
    subprocess.run([sys.executable, "-W", "ignore", str(file)], check=True, timeout=60)
    assert (file.parent / "was_run").exists()


ODD = {
    "a call": ('USER_SP_TOKEN = "<｜User｜>"', "USER_SP_TOKEN = str(1)", "str(1) in line"),
    "an f-string": (
        'tool_calls_block_name: str = "tool_calls"',
        'tool_calls_block_name: str = f"{dsml_token}"',
        "f'{dsml_token}' in line",
    ),
    "bytes": ('bos_token: str = "', 'bos_token: str = b"" + "', "b'' in line"),
    "an unknown name": ("+ eos_token", "+ end_token", "end_token in line"),
    "another operator": ("+ eos_token", "% eos_token", "'{reasoning}{content}{tool_calls}' %"),
    "a later name": ('+ eos_token', "+ USER", "USER in line"),
    "a dict": ('USER_SP_TOKEN = "<｜User｜>"', "USER_SP_TOKEN = {}", "found a dict"),
    "half a character": ('bos_token: str = "', r'bos_token: str = "\ud800', "in line"),
    "nothing": ("LATEST_REMINDER_SP_TOKEN =", "ANOTHER_TOKEN =", "found nothing"),
    "no value": ('dsml_token: str = "｜DSML｜"', "dsml_token: str", "dsml_token: str in line"),
    "an empty token": ('dsml_token: str = "｜DSML｜"', 'dsml_token: str = ""', "an empty string"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "found"), ODD.values(), ids=ODD)
def test_a_constant_of_another_form_is_named(tmp_path: Path, old: str, new: str, found: str):
    name = old.split(":")[0].split()[0].strip()
    name = "assistant_msg_template" if name == "+" else name
    message = refusal(changed(tmp_path, old, new))
    assert f": {name}: expected a " in message
    assert found in message


TEMPLATES = {
    "unknown": ("{{JSON}} of this form: ", "{JSON} of this form: ", "found {JSON}"),
    "unnamed": ("{{JSON}} of this form: ", "{} of this form: ", "found {}"),
    "missing": ('" "{schema}"', '"', "found none of {schema}"),
    "doubled, so missing": ('"{schema}"', '"{{schema}}"', "found none of {schema}"),
    "of an object": ('"{schema}"', '"{schema.x}"', "found {schema.x}"),
    "converted": ('"{schema}"', '"{schema!r}"', "found {schema!r}"),
    "padded": ('"{schema}"', '"{schema:>9}"', "found {schema:>9}"),
    "not closed": ('"{schema}"', '"{schema"', "not well formed"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "found"), TEMPLATES.values(), ids=TEMPLATES)
def test_a_field_that_is_unknown_or_missing_is_named(
    tmp_path: Path, old: str, new: str, found: str
):
    message = refusal(changed(tmp_path, old, new))
    assert ": response_format_template: expected a template with {schema}, " in message
    assert found in message


OTHERWISE = [
    "eos_token += '!'",
    "if VALID_TASKS:\n    eos_token = 'another'",
    "for eos_token in 'abc':\n    pass",
    "eos_token, other = 'a', 'b'",
    "del eos_token",
    "other = eos_token = 'a'",
]


@pytest.mark.parametrize("line", OTHERWISE)
def test_what_another_statement_assigns_is_not_guessed(tmp_path: Path, line: str):
    assert f": eos_token: expected a string of literals, found {line[:3]}" in refusal(
        with_line(tmp_path, line)
    )


def test_what_is_assigned_twice_is_the_later(tmp_path: Path):
    table = read_table(with_line(tmp_path, "dsml_token = 'later'"))
    assert table is not None
    assert table.dsml_token == "later"


EFFORTS = {
    "fewer": ('    "low": "",\n', "", "REASONING_EFFORT_PROMPTS: expected the keys low, high, max"),
    "a call": ('"low": ""', '"low": str()', "REASONING_EFFORT_PROMPTS: expected a dict"),
    "no such default": ('EFFORT = "low"', 'EFFORT = "mid"', "one of low, high, max, found"),
    "no default": ('DEFAULT_REASONING_EFFORT = "low"', "", "found nothing"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "found"), EFFORTS.values(), ids=EFFORTS)
def test_efforts_of_another_form_are_named(tmp_path: Path, old: str, new: str, found: str):
    assert found in refusal(changed(tmp_path, old, new, "later"))


def test_a_dict_that_is_made_of_another_is_named(tmp_path: Path):
    folder = changed(tmp_path, '"action":', '**{}, "action":')
    assert ": DS_TASK_SP_TOKENS: expected a dict of string literals, " in refusal(folder)


def test_a_task_without_a_token_is_named(tmp_path: Path):
    folder = changed(tmp_path, '"<｜query｜>"', '""')
    assert ": DS_TASK_SP_TOKENS: expected a token for 'query', " in refusal(folder)


def test_a_table_without_any_effort_is_refused(tmp_path: Path):
    folder = changed(tmp_path, "REASONING_EFFORT_MAX", "REASONING_EFFORT_OTHER")
    assert ": REASONING_EFFORT_MAX: expected a string of literals, found nothing" in refusal(folder)


FILES = {
    "not Python": (b"bos_token = ", "not a Python file"),
    "a zero": (b"a = 1\x00", "not a Python file"),
    "deep": (b"a = " + b"(" * 5000 + b")" * 5000, "not a Python file"),
    "a long sum": (b"a = ''" + b" + ''" * 100_000, ""),
    "not UTF-8": ("bos_token = 'é'".encode("latin-1"), "not UTF-8"),
    "large": (b"#" * (2**20 + 1), "larger than 1048576 bytes"),
    "empty": (b"", "bos_token: expected a string of literals, found nothing"),
}


@pytest.mark.parametrize(("data", "found"), FILES.values(), ids=FILES)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, data: bytes, found: str):
    file = tmp_path / FILE
    file.parent.mkdir()
    file.write_bytes(data)
    assert found in refusal(tmp_path)


def test_a_file_of_the_largest_size_is_read(tmp_path: Path):
    file = checkpoint(tmp_path) / FILE
    data = file.read_bytes()
    file.write_bytes(data + b"#" * (2**20 - len(data)))
    assert read_table(tmp_path) == table_of("original")


def test_a_folder_without_the_file_is_refused(tmp_path: Path):
    (tmp_path / "encoding").mkdir()
    assert "cannot be read: No such file or directory" in refusal(tmp_path)


def test_names_that_double_each_other_do_not_fill_the_memory(tmp_path: Path):
    doubled = "\n".join(["a = 'x'", *["a = a + a"] * 100, "eos_token = a"])
    assert ": eos_token: expected a string of literals, found a + a" in refusal(
        with_line(tmp_path, doubled)
    )
