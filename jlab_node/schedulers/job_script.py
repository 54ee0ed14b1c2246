"""A job script for a scheduler: what it asks for, the environment, `jlab-node run`."""

from __future__ import annotations

import os
import re
import shlex
import sys
import sysconfig
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..identifiers import is_name
from .base import JobRequest

if TYPE_CHECKING:
    from .base import Scheduler

DEFAULT_NAME = "lab"
_JOB = "jlab"  # jobs are called so: `connect` knows by it what will become a session

# In a directive there is no quoting that all schedulers agree on.
_WORD = r"[A-Za-z0-9_][A-Za-z0-9._@:/+-]{0,127}"
_LOG = r"/[A-Za-z0-9._/@+-]{0,511}"
_UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}
_SPANS = {"d": 86400, "h": 3600, "m": 60, "s": 1}

_CONDA = """\
# Batch shells often lack conda. If a module brings it, write `module load ...` above this line.
for conda in "$(command -v conda)" "$CONDA_EXE" \\
        ~/miniconda3/bin/conda ~/miniforge3/bin/conda ~/anaconda3/bin/conda; do
    [ -f "$conda" ] && [ -x "$conda" ] && break
    conda=
done
if [ -z "$conda" ]; then
    echo "jlab: conda is not on PATH here, nor in ~/miniconda3, ~/miniforge3 or ~/anaconda3:" \\
        "write \\`module load ...\\` into the job script, or name a path with --env" >&2
    exit 1
fi
eval "$("$conda" shell.bash hook)"
conda activate "$environment" || {
    echo "jlab: there is no conda environment $environment" >&2
    exit 1
}"""


def memory(text: str) -> int:
    """Return megabytes from 16G, 512M, 1.5T, also 16GB or 16GiB; raises JlabError."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([KMGT])(?:I?B)?", text.strip().upper())
    megabytes = round(float(found[1]) * _UNITS[found[2]]) if found else 0
    if not megabytes:
        raise JlabError(f"{text!r} is not an amount of memory", remedy="write it as 16G or 500M")
    return megabytes


def walltime(text: str) -> int:
    """Return seconds from 4:00:00, 1-12:00:00, 4h, 90m, 1d12h; raises JlabError."""
    text = text.strip().lower()
    clock = re.fullmatch(r"(?:([0-9]{1,3})-)?([0-9]{1,4}):([0-5][0-9]):([0-5][0-9])", text)
    parts = dict(zip("dhms", clock.groups("0"))) if clock else {}
    if re.fullmatch(r"(?:[0-9]{1,6}[dhms])+", text):
        spans = re.findall(r"([0-9]+)([dhms])", text)
        parts = {unit: number for number, unit in spans}
        parts = parts if len(parts) == len(spans) else {}  # "1h1h"
    seconds = sum(int(number) * _SPANS[unit] for unit, number in parts.items())
    if not seconds:
        raise JlabError(
            f"{text!r} is not a time", remedy="write it as 4:00:00, 1-12:00:00, 4h or 90m"
        )
    return seconds


def job_name(session: str) -> str:
    """Return what the job is called that runs the session of that name."""
    return _JOB if session == DEFAULT_NAME else f"{_JOB}-{session}"


def session_name(request: JobRequest) -> str:
    """Return the name of the session that the job runs; raises JlabError."""
    if request.name == _JOB:
        return DEFAULT_NAME
    prefix, _, session = request.name.partition("-")
    if prefix != _JOB or not is_name(session):
        raise JlabError(
            f"{request.name!r} cannot be the name of the job", remedy="it is jlab or jlab-NAME"
        )
    return session


def compose(
    scheduler: Scheduler,
    *,
    name: str,
    cpus: int,
    gpus: int,
    mem: str | None,
    span: str,
    account: str,
    partition: str,
    environment: str,
    notebook_dir: str,
    log_dir: str,
) -> str:
    """Return the script that the command line asks for, and make the directory of the log.

    A scheduler opens the log before the script runs, so the script would be too late. Raises
    JlabError.
    """
    logs = _absolute(log_dir)
    request = JobRequest(
        name=job_name(name),
        cpus=cpus,
        gpus=gpus,
        memory=memory(mem) if mem is not None else None,
        walltime=walltime(span),
        account=account,
        partition=partition,
        log=str(PurePosixPath(logs) / job_name(name)),
    )
    where = _absolute(environment) if "/" in environment else environment
    notebooks = _absolute(notebook_dir) if notebook_dir else ""
    text = render(scheduler, request, environment=where, notebook_dir=notebooks)
    _make(logs)
    return text


def next_commands(scheduler: Scheduler, typed: list[str]) -> str:
    """Return what to type next, for a person at a terminal who has only seen the script."""
    again = shlex.join(["jlab-node", *typed[1:]])
    return f"Next:   {again} > jlab.sh\n        {scheduler.SUBMIT_COMMAND.format('jlab.sh')}"


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 (no symlink resolved)


def _make(logs: str) -> None:
    try:
        if not Path(logs).is_dir():
            Path(logs).mkdir(mode=0o700, parents=True)
            print(f"jlab-node: made {logs} for the logs of the jobs", file=sys.stderr)
    except OSError as error:
        raise JlabError(f"cannot make {logs} for the logs: {error.strerror}") from error


def render(
    scheduler: Scheduler, request: JobRequest, *, environment: str, notebook_dir: str
) -> str:
    """Return the text of a job script; raises JlabError.

    `environment`: a conda environment's name, or the path of a venv or conda environment; "": the
    one that runs this. `notebook_dir`: "" for the home directory.
    """
    name = session_name(request)
    _check(request)
    directory = shlex.quote(_path("--notebook-dir", notebook_dir)) if notebook_dir else '"$HOME"'
    options = "" if name == DEFAULT_NAME else f" --name {name}"
    logs = str(PurePosixPath(request.log).parent)
    lines = [
        "#!/bin/bash",
        *scheduler.directives(request),
        "",
        f"# JupyterLab in a job of {scheduler.DISPLAY_NAME}, within reach of: ssh jlab+CLUSTER",
        f"# Submit it with: {scheduler.SUBMIT_COMMAND.format('jlab.sh')}",
        f"# {logs} has to exist before that.",
        "",
        f"(umask 077 && mkdir -p {logs})",
    ]
    if scheduler.LOG_ONLY_AT_END:
        lines.append(f'exec >>{request.log}-"${{{scheduler.JOB_ID}%%.*}}".log 2>&1')
    lines += [
        "unset XDG_RUNTIME_DIR  # the login node's, which does not exist here",
        "",
        *_activation(environment),
        "",
        f"exec jlab-node run{options} -- --notebook-dir={directory}",
    ]
    return "\n".join(lines) + "\n"


def _check(request: JobRequest) -> None:
    for option, value in (("--account", request.account), ("--partition", request.partition)):
        if value and not re.fullmatch(_WORD, value):
            raise JlabError(f"{option} {value!r} is not a name: letters, digits and . _ @ : / + -")
    if not re.fullmatch(_LOG, request.log):
        raise JlabError(
            f"{request.log!r} cannot be the log",
            remedy="--log-dir takes an absolute path of letters, digits and . _ @ + -",
        )
    if request.cpus < 1 or request.gpus < 0 or request.walltime < 1:
        raise JlabError("a job needs a CPU and some time")


def _path(option: str, text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise JlabError(f"{option} {text!r} is not an absolute path of printable characters")
    return text


def _activation(environment: str) -> list[str]:
    if not environment:
        where = ":".join(shlex.quote(_path("PATH", each)) for each in _own_directories())
        return [f'export PATH={where}:"$PATH"']
    if "/" not in environment:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}", environment):
            raise JlabError(f"--env {environment!r} is neither a path nor an environment's name")
        lines = [f"environment={environment}", _CONDA]
    else:
        lines = [
            f"environment={shlex.quote(_path('--env', environment))}",
            'if [ -f "$environment/bin/activate" ]; then',
            '    . "$environment/bin/activate"',
            "else",
            _CONDA,
            "fi",
        ]
    return [*lines, *_PRESENT.splitlines()]


_PRESENT = """\
command -v jlab-node >/dev/null || {
    echo "jlab: $environment has no jlab-node: type \\`pip install jlab-remote\\` in it" >&2
    exit 1
}"""


def _own_directories() -> list[str]:
    """Return where this Python's programs are, and this jlab-node if that is somewhere else."""
    found = [f"{sys.prefix}/bin"]
    started = Path(sys.argv[0]).absolute()
    own = started.parent if started.name == "jlab-node" else Path(sysconfig.get_path("scripts"))
    return list(dict.fromkeys([*found, str(own)]))
