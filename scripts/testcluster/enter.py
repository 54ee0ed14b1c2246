"""Run a command on a host: python enter.py PID USER COMMAND... , as root, from outside.

Beyond nsenter, the command gets this process's signals, and this process its exit status; the
command also ends when this process is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import sys
import warnings  # noqa: F401 - os.execvpe wants it, when this Python's files are out of sight

NAMESPACES = ("ipc", "uts", "net", "cgroup", "pid", "mnt")
PATH = "/opt/jlab/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_PR_SET_PDEATHSIG = 1
_SI_KERNEL = 128
# The terminal sends these to the whole foreground process group, so to the command as well.
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH)


def enter(pid: str) -> None:
    """Move to the namespaces and the root directory of process `pid`; children are born there."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespaces = [os.open(f"/proc/{pid}/ns/{each}", os.O_RDONLY) for each in NAMESPACES]
    root = os.open(f"/proc/{pid}/root", os.O_RDONLY)
    for namespace in namespaces:
        if libc.setns(namespace, 0):
            raise OSError(ctypes.get_errno(), "setns failed")
    os.fchdir(root)
    os.chroot(".")


def become(user: str) -> dict[str, str]:
    """Be `user`, at home; the environment that a login begins with."""
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.umask(0o022)
    try:
        os.chdir(entry.pw_dir)
    except OSError:
        os.chdir("/")
    return {
        "HOME": entry.pw_dir,
        "PWD": os.getcwd(),  # noqa: PTH109 - imported no pathlib; oarsub wants it
        "USER": user,
        "LOGNAME": user,
        "SHELL": entry.pw_shell,
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
    }


def attend(child: int, signals: set[signal.Signals]) -> int:
    """Pass signals on to `child` until it has ended; its wait status."""
    while True:
        info = signal.sigwaitinfo(signals)
        if info.si_signo == signal.SIGCHLD:
            while True:
                pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
                if not pid:
                    break
                if not os.WIFSTOPPED(status):
                    return status
                os.kill(os.getpid(), signal.SIGSTOP)
                os.kill(child, signal.SIGCONT)
        elif not (info.si_code == _SI_KERNEL and info.si_signo in _FROM_TERMINAL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, info.si_signo)


def main() -> None:
    pid, user, *command = sys.argv[1:]
    enter(pid)
    signals = signal.valid_signals() - {
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGTTIN,
        signal.SIGTTOU,
    }
    signals = {each for each in signals if isinstance(each, signal.Signals)}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = os.fork()
    if child:
        status = attend(child, signals)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        os._exit(os.WEXITSTATUS(status))
    try:
        environment = become(user)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        os.execvpe(command[0], command, environment)
    except (OSError, KeyError) as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
        os._exit(127)


if __name__ == "__main__":
    main()
