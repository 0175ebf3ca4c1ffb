"""Whether texts can be held to a form, found out by a process that can be stopped.

No count bounds what the library does: one line of `allOf` can be too much for it, and a thread of
this process could not be ended.
"""

import subprocess
import sys

from dsv4_tp.guides.form import TOO_MUCH, grammar, refusal

MOST_CPU_S = 2  # ranks compile it again, for which they have as long as for a step
WAIT_S = 10.0  # on a host that does other things, too


def check_form(form: str) -> None:
    """Whether texts can be held to the form; needs no tokenizer, but up to `WAIT_S`.

    Raises:
        RequestError: it is not JSON, not a schema, impossible, too large, takes more than
            `MOST_CPU_S` to compile, or says what cannot be held to.
    """
    grammar(form)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dsv4_tp.guides", str(MOST_CPU_S)],
            input=form,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            timeout=WAIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise refusal(form, TOO_MUCH) from error
    if done.returncode:
        raise refusal(form, done.stdout or TOO_MUCH)
