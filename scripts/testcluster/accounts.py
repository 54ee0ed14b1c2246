"""Accounts, their homes and ssh keys, and each host's sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from .hosts import ROOT, Host
from .image import PATH

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SHELLS = dict.fromkeys("1234", "bash") | {"t": "tcsh", "z": "zsh", "f": "fish"}
SHELLS |= dict.fromkeys("56", "bash")
LAPTOPS = ("laptop", "laptop2")
LOGINS = ("cal1", "gricad", "bastion")
NO_FORWARD_PORT = 2222

_SSHD = f"""\
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 100
Subsystem sftp internal-sftp
SetEnv "PATH={PATH}" LANG=C.UTF-8
"""

_CLIENT = """\
Host cal1 gricad bastion
    User {user}
Host cal1-jump
    HostName cal1
Host gricad-jump
    HostName gricad
Host *-jump
    User {user}
    ProxyJump bastion
Host cal1-noforward
    HostName cal1
Host gricad-noforward
    HostName gricad
Host *-noforward
    User {user}
    Port 2222
"""


def accounts(site: str) -> dict[str, tuple[int, str]]:
    """Name, number and shell of the users of a site: uN on clusters is lN on the laptops."""
    letter, base = ("l", 6001) if site in LAPTOPS else ("u", 5001)
    return {
        letter + suffix: (base + index, shell)
        for index, (suffix, shell) in enumerate(SHELLS.items())
    }


def prepare(hosts: Iterable[Host]) -> None:
    """Host keys of all hosts, homes of all sites, keys that open every door they should."""
    known = ""
    for host in hosts:
        _prepare_host(host)
        if host.name in LOGINS:
            key = (host.files / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
            known += f"{host.name},[{host.name}]:{NO_FORWARD_PORT} {key}"
    for site in (*LAPTOPS, *LOGINS):
        for name, (uid, _) in accounts(site).items():
            home = ROOT / "homes" / site / name
            shutil.copytree("/etc/skel", home)
            (home / ".zshrc").touch()  # without it zsh asks questions
            (home / ".ssh").mkdir(mode=0o700)
            if site in LAPTOPS:
                _keygen(home / ".ssh/id_ed25519", f"{name}@{site}")
                (home / ".ssh/known_hosts").write_text(known)
                (home / ".ssh/config").write_text(_CLIENT.format(user="u" + name[1:]))
            else:
                keys = [
                    ROOT / "homes" / laptop / f"l{name[1:]}" / ".ssh/id_ed25519.pub"
                    for laptop in LAPTOPS
                ]
                text = "".join(each.read_text() for each in keys)
                (home / ".ssh/authorized_keys").write_text(text)
            _give(home, uid)


def _prepare_host(host: Host) -> None:
    """/etc of one host, before it starts."""
    etc = host.files / "etc"
    (etc / "ssh").mkdir(parents=True)
    (etc / "hostname").write_text(host.name + "\n")
    passwd = shadow = group = ""
    for name, (uid, shell) in accounts(host.site).items():
        where = "/bin/bash" if shell == "bash" else f"/usr/bin/{shell}"
        passwd += f"{name}:x:{uid}:{uid}::/home/{name}:{where}\n"
        shadow += f"{name}:*:19000::::::\n"
        group += f"{name}:x:{uid}:\n"
    for file, text in (("passwd", passwd), ("shadow", shadow), ("group", group)):
        _append(host, file, text)
    _keygen(etc / "ssh/ssh_host_ed25519_key", host.name)
    users = "" if host.name in (*LAPTOPS, *LOGINS) else "AllowUsers root\n"
    (etc / "ssh/sshd_config").write_text(_SSHD + users)


def start_sshd(host: Host) -> None:
    host.run(["/usr/sbin/sshd"], check=True)
    if host.name in LOGINS:
        options = f"-p{NO_FORWARD_PORT} -oAllowTcpForwarding=no -oPidFile=none".split()
        host.run(["/usr/sbin/sshd", *options], check=True)


def _append(host: Host, file: str, text: str) -> None:
    image = ROOT / "hosts/image/upper/etc" / file
    target = host.files / "etc" / file
    shutil.copy(image, target)
    shutil.chown(target, *_owner(image))
    with target.open("a") as stream:
        stream.write(text)


def _owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


def _keygen(path: Path, comment: str) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, check=True)


def _give(home: Path, uid: int) -> None:
    home.chmod(0o700)
    for directory, _, files in os.walk(home):
        for each in (directory, *(os.path.join(directory, file) for file in files)):  # noqa: PTH118
            os.chown(each, uid, uid)
