"""The command line of jlab-node."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from ..errors import FAILED, JlabError, sanitize
from ..terminal import tolerate_encoding_errors
from ..version import VERSION

# Which module has a command. Only the one that is wanted is imported: a session starts sooner and
# is smaller for its whole life.
_COMMANDS = {
    "run": "session",
    "expose": "session",
    "ls": "query",
    "status": "query",
    "url": "query",
    "logs": "query",
    "stop": "query",
    "submit": "query",
    "setup": "laptop",
    "connect": "laptop",
    "doctor": "laptop",
    "script": "script",
}
_RESUBMIT = 99  # to OAR this exit status means: run the job again


def main() -> NoReturn:
    """Run the command; an expected failure is one sentence and its exit code, no traceback."""
    tolerate_encoding_errors()
    try:
        code = cli(prog_name="jlab-node", standalone_mode=False)
        print(end="", flush=True)  # a disk that is full is told of here, not at the very end
    except JlabError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:  # a full disk, a home that is gone: nothing that we foresaw here
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left would be tried again at the end
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", FAILED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    sys.exit(_exit_code(code) if isinstance(code, int) else 0)


def _fail(text: str, code: int) -> NoReturn:
    for line in text.splitlines():
        print(f"jlab-node: {sanitize(line)}", file=sys.stderr)
    sys.exit(_exit_code(code))


def _exit_code(code: int) -> int:
    return FAILED if code == _RESUBMIT else code


class _Commands(click.Group):
    """The commands of the modules beside this."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f".{_COMMANDS[cmd_name]}", __package__)
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="jlab-node")
def cli() -> None:
    """JupyterLab inside a batch job, and the way to it from a laptop.

    In the job:  jlab-node run.  On the laptop:  ssh jlab+ALIAS.
    """
