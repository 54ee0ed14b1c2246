"""Build wheel and sdist, install each into an empty environment, and run both commands there."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import surroundings

_ROOT = Path(__file__).parents[1]


def main() -> int:
    """Return 0 if all of it works; raises SystemExit with a sentence if a step fails."""
    parser = argparse.ArgumentParser(prog="scripts/check-release", description=__doc__)
    parser.add_argument("directory", nargs="?", help="where wheel and sdist are to stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(options.directory or f"{scratch}/dist")
        _run([sys.executable, "-m", "build", "--outdir", str(directory), str(_ROOT)], scratch)
        version = _version()
        for name in (
            f"jlab_remote-{version}-py3-none-any.whl",
            f"jlab_remote-{version}.tar.gz",
        ):
            _check(directory / name, version, Path(scratch) / name)
            print(f"{name}: works", flush=True)
    return 0


def _check(distribution: Path, version: str, scratch: Path) -> None:
    """Install it, and nothing of this checkout; run what a user types first."""
    environment = scratch / "environment"
    home = scratch / "home"
    home.mkdir(parents=True)
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    pip = [str(programs / "pip"), "install", "-q", "--disable-pip-version-check"]
    _run([*pip, str(distribution)], home)
    for command in ("jlab-node", "jlab-proxy"):
        said = _run([str(programs / command), "--version"], home)
        if said != f"{command}, version {version}\n":
            raise SystemExit(f"error: {command} of {distribution.name} says {said!r}")
    _run([str(programs / "jlab-node"), "setup", "--dry-run"], home)
    if (home / ".jlab").exists():
        raise SystemExit("error: jlab-node setup --dry-run has made ~/.jlab")


def _run(command: list[str], directory: str | Path) -> str:
    """Return what the command prints, with `directory` as its working directory and its home."""
    env = {**os.environ, **surroundings.PROXIES, "HOME": str(directory)}
    for pip_config in (Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
        if pip_config.exists():  # which package index, behind a mirror
            env.setdefault("PIP_CONFIG_FILE", str(pip_config))
    done = subprocess.run(
        command, cwd=directory, env=env, check=False, capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(f"error: {' '.join(command)} ended with {done.returncode}: see above")
    return done.stdout


def _version() -> str:
    scope: dict[str, str] = {}
    exec((_ROOT / "jlab_node" / "version.py").read_text(encoding="utf-8"), scope)
    return scope["VERSION"]


if __name__ == "__main__":
    sys.exit(main())
