"""Files for what stands around a session: an environment to run it in, a tmuxp session. Pure."""

from __future__ import annotations

import re

from ..errors import JlabError

# What the environment consists of: the one list that both of its forms are made from.
_EVERYWHERE = (
    "jupyterlab>=4,<5",
    "jupyterlab-git",
    "jupyter-server-proxy",
    "ipywidgets",
    "dask",
    "distributed",
    "dask-labextension",
    "bokeh",
)
_ONLY_CONDA = (
    "nb_conda_kernels",  # shows the kernels of all other conda environments
    "nodejs",
)
_ONLY_PIP = ("jlab-remote",)

# As jlab-proxy has it: both end up in a command line.
_TARGET = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}(\+[a-z0-9][a-z0-9._-]{0,31})?")

_ENVIRONMENT = """\
# An environment for JupyterLab in a job: `conda env create -f environment.yaml`, or with mamba.
# Then: jlab-node script slurm --env jlab
name: jlab
channels:
  - conda-forge
dependencies:
  - python>=3.10
{conda}
  - pip
  - pip:
{pip}
"""

_TMUXP = """\
# On your computer: `tmuxp load FILE`. One window holds the way to JupyterLab, one has a shell in
# the job.
session_name: {session}
windows:
  - window_name: tunnel
    panes:
      - ssh -N {host}
  - window_name: shell
    focus: true
    panes:
      # The tunnel is the other window's, whichever connects first.
      - ssh -o ClearAllForwardings=yes {host}
"""


def environment() -> str:
    """Return an environment.yaml for conda or mamba."""
    return _ENVIRONMENT.format(
        conda="\n".join(f"  - {each}" for each in (*_EVERYWHERE, *_ONLY_CONDA)),
        pip="\n".join(f"      - {each}" for each in _ONLY_PIP),
    )


def requirements() -> str:
    """Return the same for pip, as far as it has that: a requirements.txt."""
    return "".join(f"{each}\n" for each in (*_EVERYWHERE, *_ONLY_PIP))


def tmuxp(where: str) -> str:
    """Return a session for tmuxp; `where` is ALIAS or ALIAS+SESSION. Raises JlabError."""
    if not _TARGET.fullmatch(where):
        raise JlabError(
            f"{where!r} is not of the form ALIAS or ALIAS+SESSION, as in `ssh jlab+ALIAS`: "
            "a-z 0-9 . _ -"
        )
    host = f"jlab+{where}"
    return _TMUXP.format(host=host, session=host.replace(".", "_"))  # tmux has no "." in names
