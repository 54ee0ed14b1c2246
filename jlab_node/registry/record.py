"""The rendezvous record and its text form: lines of `key=value`, the same for people, bash, Python.

What comes out of a record ends up in a command line and on a screen, so every value is held against
a narrow pattern when it is written and again when it is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import JlabError
from ..identifiers import BEFORE_SUFFIX, JOB_ID, MAX_PORT, NAME, PROCESS, SCHEDULER, is_id

FORMAT = 1
MAX_EXPOSED = 16
NO_PORT = 1  # where nothing of a user's can listen: JupyterLab has its socket alone

_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_PORT = r"[1-9][0-9]{0,4}"
_TIME = r"[1-9][0-9]{0,11}"
# Printable: neither C0 nor C1 control characters, which terminals obey, nor bytes that are not
# UTF-8.
_PATH = r"/[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,1023}"

# In the order of the file. The token comes last, so that a file that was cut short lacks it.
_PATTERNS = {
    "name": NAME,
    "scheduler": SCHEDULER,
    "job_id": JOB_ID,
    "id_suffix": r"[A-Za-z0-9._]{1,32}",
    "cluster": _WORD,
    "node": r"(?=.{1,253}$)[A-Za-z0-9][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_-]{1,63})*",
    "ssh_port": _PORT,
    "sshd_config": _PATH,
    "nonce": r"[0-9a-f]{32}",
    "knock": r"[0-9a-f]{32}",
    "socket_dir": r"/[A-Za-z0-9._/-]{1,107}",
    "port": _PORT,
    "scheme": r"https?",
    "base_url": r"/([A-Za-z0-9._~%-]+/)*",
    "exposed": rf"{NAME}(,{NAME}){{0,{MAX_EXPOSED - 1}}}",
    "user": r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}\$?",
    "process": PROCESS,
    "started": _TIME,
    "job_started": _TIME,
    "ends_at": _TIME,
    "log": _PATH,
    "version": r"[0-9A-Za-z][0-9A-Za-z.+!-]{0,63}",
    "token": r"[0-9a-f]{64}",
}
_REQUIRED = ("name", "node", "port", "token")
_NUMBERS = ("ssh_port", "port", "started", "job_started", "ends_at")


class RecordError(JlabError):
    """A record that cannot be used; the text says which key is wrong."""


@dataclass(frozen=True)
class Record:
    """One running session: where it is and how to prove that it is the one meant."""

    name: str
    node: str
    port: int  # JupyterLab's, on 127.0.0.1 of the node, or NO_PORT
    token: str
    scheduler: str = "local"
    job_id: str = "0"
    id_suffix: str = ""  # tells its id from that of a job of this number elsewhere with this home
    cluster: str = ""
    ssh_port: int | None = None  # None: the session has no ssh endpoint
    sshd_config: str = ""  # path on the node
    nonce: str = ""  # by which the endpoint proves to be this session's
    knock: str = ""  # by which its owner answers; "": an older endpoint, which expects none
    socket_dir: str = ""  # the user's directory on the node; "": /tmp/jlab-USER
    scheme: str = "http"  # how JupyterLab is spoken to
    base_url: str = "/"
    exposed: str = ""  # names that lead to other ports of the node, separated by commas
    user: str = ""
    process: str = ""  # identity of the jlab-node whose session it is (process_id.py)
    started: int | None = None  # Unix time, seconds, by the node's clock
    # Unix times, seconds, by the scheduler's clock; None: not known.
    job_started: int | None = None
    ends_at: int | None = None
    log: str = ""  # path of the job log
    version: str = ""

    @property
    def id(self) -> str:
        """`<scheduler>-<job id>-<name>`: the name of its file, unique in a home."""
        suffix = f"{BEFORE_SUFFIX}{self.id_suffix}" if self.id_suffix else ""
        return f"{self.scheduler}-{self.job_id}{suffix}-{self.name}"

    def is_of(self, scheduler: str, cluster: str) -> bool:
        """Return whether its job is one of that cluster.

        "": the cluster has no name, nor may the record then.
        """
        same = not self.cluster or not cluster or self.cluster == cluster
        return self.scheduler == scheduler and same

    def __repr__(self) -> str:
        return f"Record({self.id})"  # never the token


def check(key: str, value: str) -> str:
    """Return `value` if it may stand in a record under `key`; raises RecordError."""
    if not re.fullmatch(_PATTERNS[key], value):
        raise RecordError(f"its {key} is not valid")
    if key in ("port", "ssh_port") and int(value) > MAX_PORT:
        raise RecordError(f"its {key} is not a port number")
    return value


def render(record: Record) -> str:
    """Return the text of a record; raises RecordError when a value does not fit its pattern."""
    lines = [f"format={FORMAT}"]
    for key in _PATTERNS:
        value = getattr(record, key)
        if value not in (None, ""):
            lines.append(f"{key}={check(key, str(value))}")
    _with_an_id(record)
    return "\n".join(lines) + "\n"


def parse(text: str) -> Record:
    """Return the record from its text; unknown keys are ignored. Raises RecordError."""
    values = _split(text)
    version = values.get("format", "")
    if not re.fullmatch(r"[1-9][0-9]{0,5}", version):
        raise RecordError("it has no format number")
    if int(version) > FORMAT:
        raise RecordError(
            f"a newer jlab-node wrote it (format {version})",
            remedy="upgrade jlab-remote on this cluster",
        )
    missing = [key for key in _REQUIRED if key not in values]
    if missing:
        raise RecordError(f"it has no {missing[0]}")
    known = {key: check(key, value) for key, value in values.items() if key in _PATTERNS}
    record = Record(**{k: int(v) if k in _NUMBERS else v for k, v in known.items()})  # type: ignore[arg-type]
    return _with_an_id(record)


def _with_an_id(record: Record) -> Record:
    """Return the record; raises RecordError if job id and suffix are too long for an id."""
    if record.id_suffix and not is_id(record.id):
        raise RecordError("its id_suffix is not valid")
    return record


def _split(text: str) -> dict[str, str]:
    if not text.endswith("\n"):
        raise RecordError("it is cut short")
    values: dict[str, str] = {}
    for line in text[:-1].split("\n"):
        key, equals, value = line.partition("=")
        if not equals:
            raise RecordError("it has a line that is not key=value")
        if key in values:
            raise RecordError("it has a key twice")
        values[key] = value
    return values
