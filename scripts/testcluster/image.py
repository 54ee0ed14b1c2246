"""What all hosts share: Debian's packages over the machine's own files, JupyterLab, the product."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import surroundings

from .hosts import ROOT, Host, say

PACKAGES = {
    "every host": "openssh-server openssh-client procps iproute2 rsync tcsh zsh fish",
    "the product": "python3 python3-venv",
    "slurm": "slurmctld slurmd slurm-client munge",
    "oar": "oar-server oar-server-pgsql oar-user oar-user-pgsql oar-node postgresql taktuk",
}
PATH = "/opt/jlab/bin:/usr/local/bin:/usr/bin:/bin"
CHECKOUT = Path(__file__).parents[2]
PRODUCT = ("jlab_node", "jlab_proxy", "pyproject.toml", "README.md")

_IMAGE = Host("image")
_INSTALLED = ROOT / "installed"  # the pyproject.toml that pip has seen
_PIP = [
    "/opt/jlab/bin/python",
    "-m",
    "pip",
    "install",
    "--quiet",
    "--no-cache-dir",
    "--root-user-action=ignore",
]


def build() -> None:
    """Install everything into the layer below all hosts; nothing of it is left on the machine."""
    files = _IMAGE.files
    for directory in ("etc", "usr/sbin"):
        (files / directory).mkdir(parents=True, exist_ok=True)
    shutil.copy("/etc/resolv.conf", files / "etc")  # the file, where that is a link into /run
    no_services = files / "usr/sbin/policy-rc.d"
    no_services.write_text("#!/bin/sh\nexit 101\n")
    no_services.chmod(0o755)
    for each in ("jlab", "jlab-remote"):
        (ROOT / "opt" / each).mkdir(parents=True, exist_ok=True)
    copy_product()
    _IMAGE.start()
    try:
        packages = " ".join(PACKAGES.values()).split()
        say(f"installing {' '.join(packages)}, seen by the cluster only")
        _run(["apt-get", "update", "-q"])
        _run(["apt-get", "install", "-qy", "--no-install-recommends", *packages])
        _run(["apt-get", "clean"])
        say("installing JupyterLab there (some minutes)")
        _run(["python3", "-m", "venv", "/opt/jlab"])
        _run([*_PIP, "jupyterlab", "websocket-client"])
        _install_product()
        _set_path()
    finally:
        _IMAGE.kill()


def copy_product() -> None:
    """Bring the copy of this checkout up to date; readable by all, whatever the checkout is."""
    copy = ROOT / "opt/jlab-remote"
    wanted = {
        path.relative_to(CHECKOUT)
        for name in PRODUCT
        for path in (
            (CHECKOUT / name).rglob("*") if (CHECKOUT / name).is_dir() else [CHECKOUT / name]
        )
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name in wanted:
        target, text = copy / name, (CHECKOUT / name).read_bytes()
        if not target.exists() or target.read_bytes() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            new = target.with_name(target.name + ".new")
            new.write_bytes(text)
            new.replace(target)  # in one step: programs may be running from here
    for package in (each for each in PRODUCT if (copy / each).is_dir()):
        for path in (copy / package).rglob("*"):
            is_cache = "__pycache__" in path.parts
            if path.is_file() and not is_cache and path.relative_to(copy) not in wanted:
                path.unlink()


def sync() -> None:
    """What this checkout says now is what runs on the cluster."""
    copy_product()
    if _INSTALLED.read_text() != (CHECKOUT / "pyproject.toml").read_text():
        say("installing jlab-remote's dependencies again")
        _IMAGE.start()
        try:
            _install_product()
        finally:
            _IMAGE.kill()
    _compile()


def _compile() -> None:
    """As pip does: the users of the hosts cannot write there, and would compile at each start."""
    python = ROOT / "opt/jlab/bin/python"
    if python.exists():
        place = [str(ROOT / "opt/jlab-remote" / each) for each in PRODUCT if "." not in each]
        seen_as = ["-s", str(ROOT / "opt"), "-p", "/opt"]
        subprocess.run([python, "-m", "compileall", "-q", *seen_as, *place], check=False)


def _install_product() -> None:
    editable = ["--config-settings", "editable_mode=compat", "-e", "/opt/jlab-remote"]
    _run([*_PIP, *editable])
    _compile()
    shutil.copy(ROOT / "opt/jlab-remote/pyproject.toml", _INSTALLED)


def _set_path() -> None:
    """jlab-node is on everybody's PATH, in every shell."""
    etc = _IMAGE.files / "etc"
    (etc / "profile.d").mkdir(exist_ok=True)
    (etc / "profile.d/jlab.sh").write_text("PATH=/opt/jlab/bin:$PATH\n")
    (etc / "environment").write_text(f"PATH={PATH}\n")
    (etc / "zsh").mkdir(exist_ok=True)
    (etc / "zsh/zprofile").write_text("path=(/opt/jlab/bin $path)\n")
    (etc / "csh.login").write_text("set path=(/opt/jlab/bin $path:q)\n")


def _run(arguments: list[str]) -> None:
    passed = ("PIP_", "SSL_", "HTTP_", "HTTPS_", "ALL_PROXY", "NO_PROXY", "REQUESTS_")
    known = {**surroundings.PROXIES, **os.environ}
    env = {name: value for name, value in known.items() if name.upper().startswith(passed)}
    env["DEBIAN_FRONTEND"] = "noninteractive"
    _IMAGE.run(arguments, check=True, timeout=1800, env=env)
