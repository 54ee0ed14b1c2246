"""The distribution: what is in it, what it needs, and the oldest Python that can read it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import surroundings

import jlab_node.version
import jlab_proxy

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("jlab_*/**/*.py"), *ROOT.glob("scripts/**/*.py")])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--outdir", str(directory), str(ROOT)]
    env = {**os.environ, **surroundings.PROXIES}
    subprocess.run(build, env=env, check=True, capture_output=True)
    return directory


@pytest.mark.network
def test_the_wheel(built: Path) -> None:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (wheel.read(n).decode() for n in names if n.endswith("METADATA"))
        (entries,) = (wheel.read(n).decode() for n in names if n.endswith("entry_points.txt"))
    sources = {str(p.relative_to(ROOT)) for p in ROOT.glob("jlab_*/**/*.py")}
    others = {"jlab_node/py.typed", "jlab_proxy/py.typed", "jlab_node/connect.bash"}
    assert {n for n in names if not n.split("/")[0].endswith("info")} == sources | others
    assert "jlab-node = jlab_node.__main__:main" in entries
    assert "jlab-proxy = jlab_proxy.__main__:main" in entries
    needs = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    always = {line.split()[1].split(">")[0] for line in needs if "extra ==" not in line}
    assert always == {"click", "filelock", "portpicker", "psutil"}
    assert "Requires-Python: >=3.9" in metadata


@pytest.mark.network
def test_the_sdist(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "jlab_node/connect.bash"} <= names


@pytest.mark.network
@pytest.mark.full
def test_wheel_and_sdist_work_in_an_empty_environment() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "check_release.py")]
    env = {**os.environ, **surroundings.PROXIES}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.count(": works\n") == 2


def test_the_release_is_of_one_version() -> None:
    version = jlab_node.version.VERSION
    assert version == jlab_proxy.VERSION
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == version


def test_python_3_9_can_read_it() -> None:
    for path in SOURCES:
        ast.parse(path.read_text(), path.name, feature_version=(3, 9))


def test_the_two_sides_share_nothing() -> None:
    for ours, other in (("jlab_node", "jlab_proxy"), ("jlab_proxy", "jlab_node")):
        for path in (ROOT / ours).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    assert other not in ast.unparse(node), path
