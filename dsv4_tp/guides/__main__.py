"""Compiles the form on stdin: `python -m dsv4_tp.guides SECONDS`.

Ends with 1 and says why if it is refused; is ended after so many seconds of CPU.
"""

import resource
import sys

from dsv4_tp.errors import RequestError
from dsv4_tp.guides.form import compile_form


def main(most_cpu_s: int) -> int:
    """The exit status."""
    # By the kernel, for the library never looks up, and whoever waits may be gone.
    resource.setrlimit(resource.RLIMIT_CPU, (most_cpu_s, most_cpu_s))
    try:
        compile_form(sys.stdin.buffer.read().decode())
    except RequestError as error:
        sys.stdout.buffer.write(str(error).partition(": ")[2].encode())  # behind the field
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
