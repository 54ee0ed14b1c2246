"""The command jlab-proxy. What ssh itself calls is decided here, before click is imported."""

from __future__ import annotations

import os
import sys

from . import connect
from .errors import JlabError, say

TYPE_CHECKING = False  # `typing` would cost a tenth of the start-up
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command; an expected failure is one sentence and its exit code, no traceback."""
    try:
        if sys.argv[1:2] == ["connect"] and not {"-h", "--help"} & {*sys.argv}:
            connect.main(sys.argv[2:])
        from .cli import main as everything_else

        everything_else()
    except JlabError as error:
        for line in str(error).splitlines():
            say(line)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a home that is gone: nothing that we foresaw here
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left would be tried again at the end
        say(f"{error.filename or 'input or output'}: {error.strerror or error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
