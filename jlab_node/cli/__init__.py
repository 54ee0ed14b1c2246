"""The command line of jlab-node."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import NoReturn

import click

from jlab_node.errors import FAILED, JlabError
from jlab_node.screen import printable

from . import inside, looking, serving, writing

_RESUBMIT = 99  # to OAR this exit status means: run the job again


def main() -> NoReturn:
    """Run the command; an expected failure is one sentence and its exit code, no traceback."""
    try:
        code = cli(prog_name="jlab-node", standalone_mode=False)
    except JlabError as error:
        _fail(str(error), error.code)
    except OSError as error:  # a full disk, a home that is gone: nothing that we foresaw here
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", FAILED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    sys.exit(_exit_code(code) if isinstance(code, int) else 0)


def _fail(text: str, code: int) -> NoReturn:
    for line in text.splitlines():
        print(f"jlab-node: {printable(line)}", file=sys.stderr)
    sys.exit(_exit_code(code))


def _exit_code(code: int) -> int:
    return FAILED if code == _RESUBMIT else code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("jlab-remote"), prog_name="jlab-node")
def cli() -> None:
    """JupyterLab inside a batch job, and the way to it from a laptop.

    In the job:  jlab-node run.  On the laptop:  ssh jlab+ALIAS.
    """


for _command in (
    inside.run,
    inside.expose,
    looking.ls,
    looking.status,
    looking.url,
    looking.logs,
    looking.stop,
    looking.submit,
    serving.setup,
    serving.connect,
    serving.doctor,
    writing.script,
):
    cli.add_command(_command)
