"""The sshd of a session: where the binary is, its configuration, its command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import JlabError

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGIN_GRACE = 60  # seconds to show a key

_ELSEWHERE = "/usr/sbin:/usr/local/sbin:/sbin:/usr/lib/ssh"

# What belongs to a terminal or a login, not to the job.
_NOT_THE_JOBS = re.compile(
    r"(USER|LOGNAME|SHELL|PWD|OLDPWD|SHLVL|_|MAIL|TERM|TERMCAP|COLUMNS|LINES|LS_COLORS|DISPLAY"
    r"|XAUTHORITY|WINDOWID|JUPYTER_TOKEN|(SSH|TMUX|STY|XDG_SESSION|XDG_VTNR|XDG_SEAT|DBUS)(_.*)?)"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# sshd's configuration has no way to write these in a value that all its versions read alike.
_UNWRITABLE = re.compile(r'[\x00-\x1f\x7f"\\]')

_CONFIG = """\
HostKey {host_key}
AuthorizedKeysFile {authorized_keys}
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
{allow_users}PermitRootLogin prohibit-password
# The keys are what jlab-node has read, after it had looked whose the files are.
StrictModes no
PidFile none
PrintMotd no
PrintLastLog no
LogLevel VERBOSE
LoginGraceTime {login_grace}
MaxSessions 100
PermitTTY {terminals}
# A laptop that sleeps for ten minutes finds its shell again.
ClientAliveInterval 30
ClientAliveCountMax 20
AcceptEnv LANG LC_* COLORTERM
Subsystem sftp internal-sftp
{set_env}"""


def find(path: str | None) -> str | None:
    """Return the absolute path of sshd, as it demands to be started by; None where there is none.

    `path` is the one that the user has named. Raises JlabError where that is no program.
    """
    if path is None:
        found = shutil.which("sshd") or shutil.which("sshd", path=_ELSEWHERE)
        return str(Path(found).absolute()) if found else None
    found = shutil.which(path)
    if found is None:
        raise JlabError(f"--sshd: {path} is not a program")
    return str(Path(found).absolute())


def set_env(env: Mapping[str, str]) -> str:
    """Return the SetEnv line that carries the job's environment: sshd reads only the first one."""
    pairs = [
        f'"{name}={value}"'
        for name, value in sorted(env.items())
        if _VARIABLE.fullmatch(name)
        and not _NOT_THE_JOBS.fullmatch(name)
        and not _UNWRITABLE.search(value)
    ]
    return f"SetEnv {' '.join(pairs)}\n" if pairs else ""


def config(
    host_key: Path,
    authorized_keys: Path,
    *,
    user: str,
    env: Mapping[str, str],
    terminals: bool = True,
) -> str:
    """Return the text of the configuration; raises JlabError for a path that cannot stand in it.

    It has the paths of the host key and of the keys that may enter. Without `terminals` who asks
    for one has a shell without, where sshd itself would hang up.
    """
    return _CONFIG.format(
        host_key=_quoted(host_key),
        authorized_keys=_quoted(authorized_keys, tokens=True),
        # Elsewhere "@" means a host; and whoever we are, sshd can let nobody else in.
        allow_users="" if "@" in user else f"AllowUsers {user}\n",
        login_grace=LOGIN_GRACE,
        terminals="yes" if terminals else "no",
        set_env=set_env(env),
    )


def _quoted(path: Path, *, tokens: bool = False) -> str:
    text = str(path)
    if _UNWRITABLE.search(text):
        raise JlabError(f"sshd cannot take the path {text!r}: it has a quote or control character")
    return '"{}"'.format(text.replace("%", "%%") if tokens else text)


def command(sshd: str, config_path: Path) -> list[str]:
    """Return the command that serves one connection on stdin and stdout, and logs to stderr."""
    return [sshd, "-i", "-e", "-f", str(config_path)]


def check(sshd: str, config_path: Path) -> None:
    """Let sshd itself judge binary, configuration and host key; raises JlabError."""
    try:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it insists, as root
        done = subprocess.run(
            [sshd, "-t", "-f", str(config_path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise JlabError(f"cannot start {sshd}: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise JlabError(f"{sshd} does not work here: {said[-1] if said else done.returncode}")
