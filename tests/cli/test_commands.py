"""What the command accepts, frozen: a new option is a decision, not an accident."""

import errno
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import click
import pytest

from dsv4_tp import __version__, client, config, errors, text
from dsv4_tp.cli import versions
from dsv4_tp.cli.commands import cli
from dsv4_tp.cli.exits import Exit
from dsv4_tp.cli.main import run
from dsv4_tp.cli.versions import version_page
from dsv4_tp.v1 import cluster_pb2

SAMPLING = (
    "--chat --max-tokens --temperature --top-p --top-k --seed --min-p --repetition-penalty"
    " --presence-penalty --frequency-penalty --logit-bias --logprobs --stop --stop-id --json-schema"
    " --time-limit"
)
CACHES = "--mtp --cache-rows --prefix-cache-gb"
CLUSTER = (
    f"--model --hosts -f --file --backend --attention --context --dtype --batch --queue {CACHES} "
    "--prefix-cache-on-disk --restart --http --api-keys --metrics-alias"
)
LAUNCH = f"{CLUSTER} --name --prompt {SAMPLING} --json"
OPTIONS = {
    "agent": "--bind --port --state-dir --detach",
    "guard": "",
    "worker": "--socket --progress",
    "examine": "",
    "trial": "",
    "coordinator": LAUNCH,
    "launch": LAUNCH,
    "plan": f"--model --ranks --split --hosts -f --file --context --batch {CACHES} "
    "--attention --memory --bandwidth --ledger --chips --link --sum-us --json",
    "inspect": "model --json",
    "shard": "--model --out --ranks --split --hosts -f --file --attention --rank --json",
    "push": "--model --out --hosts -f --file --attention --json",
    "doctor": "--model --hosts -f --file --host --record --backend --json",
    "hostfile": "",
    "hostfile import": "source --model",
    "hostfile export": "--hosts -f --file --rdma",
    "generate": f"--name --address --prompt {SAMPLING} --mtp --json",
    "chat": "--name --address --system --think --max-tokens --temperature --top-p --top-k --seed"
    " --json",
    "score": "--model --tokens --chunk --logits --hosts -f --file --dtype",
    "status": "--name --address --watch --every --json",
    "top": "--name --address --every --count --json",
    "bench": "--name --address --batches --prompts --tokens --rounds --bandwidth --json",
    "events": "--name --address --since -f --follow --json",
    "logs": "--name --address --host --rank --epoch -f --follow --json",
    "drain": "--name --address --timeout --json",
    "restart": "--name --address --json",
    "down": "--name --address --force --json",
    "debug-bundle": "--name --address -o --out --json",
}
HIDDEN = {"agent", "coordinator", "examine", "guard", "trial", "worker"}


def commands() -> dict[str, click.Command]:
    """All of them by name, those of a group under both names."""
    found = dict(cli.commands)
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            found |= {f"{name} {own}": sub for own, sub in command.commands.items()}
    return found


def test_the_commands_and_their_options_are_these():
    found = {
        name: " ".join(option for param in command.params for option in param.opts)
        for name, command in commands().items()
    }
    assert found == OPTIONS


def test_what_a_user_does_not_type_is_hidden():
    assert {name for name, command in commands().items() if command.hidden} == HIDDEN


def test_everything_is_an_option_but_what_is_looked_at():
    params = [param for command in commands().values() for param in command.params]
    options = [param for param in params if isinstance(param, click.Option)]
    assert all(option.help for option in options)
    assert [p.metavar for p in params if p not in options] == ["DIR", "FILE"]


@pytest.mark.parametrize(
    ("package", "names"),
    [
        (
            client,
            "Answer Ask AsyncClient Client ClusterStatus Downfall Finish HostDown HostStatus "
            "LogPart Logprob Piece RankStatus Stats Totals ask_of find_cluster is_running whole",
        ),
        (
            config,
            "BATCH DEMO LOCALHOST LONG_CHUNK LOOPBACK MAX_RANKS MOST_BATCH MOST_DRAFTS "
            "PREFILL_CHUNK QUEUE ClusterConfig DTypeChoice Host Http ModelConfig Ports PrefixCache "
            "Rank Restart RestartPolicy Timeouts check_name cluster_of_hosts model_path parse_http "
            "parse_weights read_cluster",
        ),
        (text, "NO_THOUGHT Defaults Detokenizer Stops Text read_defaults"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_public_names_are_these(package: object, names: str):
    assert package.__all__ == names.split()
    assert all(hasattr(package, name) for name in package.__all__)


def test_every_error_ends_with_a_code_of_the_table():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert len(kinds) > 5
    assert {kind.exit_code for kind in kinds} <= set(Exit)


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "dsv4_tp", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = done.stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert names[:4] == ["dsv4-tp", "Python", "mlx", "mlx-lm"]
    assert names[4] in ("Linux", "macOS")
    assert names[5:] == ["protocol"]
    assert lines[0] == f"dsv4-tp {__version__}"
    assert lines[2] == f"mlx {version('mlx')}"


def test_the_protocol_is_the_one_that_is_spoken():
    package = cluster_pb2.DESCRIPTOR.package
    assert f"protocol {package.removeprefix('dsv4_tp.')};" in version_page()


def test_what_is_not_installed_is_said(monkeypatch):
    def absent(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(versions, "version", absent)
    assert "mlx is not installed\n" in version_page()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "Missing command. See dsv4-tp --help"),
        ("laumch", "No such command 'laumch'. Did you mean 'launch'?"),
        ("plan --rank 2", "(Did you mean one of: '--link', '--ranks'?)"),
        ("plan --ranks 0", "Invalid value for '--ranks'"),
        ("plan --ranks 2.5", "Invalid value for '--ranks'"),
        ("score --model demo", "Missing option '--tokens'. See dsv4-tp score --help"),
        ("generate --max-tokens 5", "Missing option '--prompt'"),
        ("generate --prompt \udcff", "Invalid value for '--prompt': it is not UTF-8."),
        ("generate --prompt x --max-tokens 0", "Invalid value for '--max-tokens'"),
        ("generate --prompt x --temperature nan", "nan is not a number, 0 or more"),
        ("generate --prompt x --temperature -1", "-1.0 is not a number, 0 or more"),
        ("generate --prompt x --top-p 0", "0.0 is not a number above 0, at most 1"),
        ("generate --prompt x --top-k -1", "Invalid value for '--top-k'"),
        ("generate --prompt x --seed 18446744073709551616", "Invalid value for '--seed'"),
        ("generate --prompt x --min-p 1.1", "1.1 is not a number from 0 to 1"),
        ("generate --prompt x --repetition-penalty 0", "0.0 is not a number above 0"),
        ("generate --prompt x --presence-penalty 3", "3.0 is not a number from -2 to 2"),
        ("generate --prompt x --frequency-penalty nan", "nan is not a number from -2 to 2"),
        ("generate --prompt x --logit-bias 5", "'5': the value must be a number from -100 to 100"),
        ("generate --prompt x --logit-bias 5=101", "the value must be a number from -100 to 100"),
        ("generate --prompt x --logit-bias a=1", "'a=1': expected ID=VALUE"),
        ("generate --prompt x --logit-bias 5=1 --logit-bias 05=2", "token 5 has one already"),
        ("generate --prompt x --logprobs 21 --json", "Invalid value for '--logprobs'"),
        ("generate --prompt x --logprobs 2", "--logprobs needs --json"),
        ("generate --prompt x --stop \udcff", "Invalid value for '--stop': it is not UTF-8."),
        ("generate --prompt x --stop-id -1", "Invalid value for '--stop-id'"),
        ("generate --prompt x --stop=", "it is empty"),
        ("generate --prompt x" + 17 * " --stop x", "given 17 times; at most 16 are possible"),
        ("generate --prompt x --json-schema no/such", "No such file or directory: 'no/such'"),
        (f"generate --prompt x --json-schema {sys.executable}", "can't decode byte"),
        (
            "coordinator --prompt x --model demo --hosts a --json-schema pyproject.toml",
            "is not JSON",
        ),
        ("generate --prompt x --time-limit 0", "0.0 is not a number above 0"),
        ("generate --prompt x --name a --address b:1", "--name and --address both say"),
        ("generate --prompt x --address b", "--address 'b': expected HOST:PORT"),
        ("launch --dtype float16", "Invalid value for '--dtype'"),
        ("coordinator --hosts localhost --model demo --top-k 3", "--top-k needs --prompt"),
        ("coordinator --hosts localhost --logit-bias 5=1", "--logit-bias needs --prompt"),
        ("coordinator --hosts localhost --stop-id 5", "--stop-id needs --prompt"),
        ("coordinator --hosts localhost --time-limit 5", "--time-limit needs --prompt"),
        ("coordinator --hosts localhost --model demo --json", "--json needs --prompt"),
        ("coordinator --hosts localhost --model demo --name a/b", "name 'a/b': expected letters"),
        ("coordinator --hosts localhost", "which model? give --model"),
        ("coordinator --hosts localhost --model demo -f x.yaml", "--hosts and -f both describe"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused_in_one_line(
    arguments: str, says: str, capsys: pytest.CaptureFixture[str]
):
    assert run(arguments.split()) == Exit.REFUSED
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dsv4-tp: error: ")
    assert err.count("\n") == 1
    assert says in err


def test_what_the_system_refuses_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "out.npz")

    monkeypatch.setattr(cli, "invoke", fail)
    assert run(["status"]) == Exit.FAILED
    assert capsys.readouterr().err.endswith("No space left on device: 'out.npz'\n")


def test_ctrl_c_ends_with_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "invoke", press)
    assert run(["status"]) == Exit.INTERRUPTED
    assert "interrupted" in capsys.readouterr().err
