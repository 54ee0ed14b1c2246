"""A laptop whose disk is full: old content stays, one sentence says so, what can work does."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from loopback import Loopback, finished, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.full

# $0: ~/.ssh, which becomes a small file system without any room, for this command and no other.
FULL = """
cp -a "$0" "$0.copy" && mount -t tmpfs -o size=256k none "$0" && cp -a "$0.copy/." "$0" || exit 99
rm -r "$0.copy"
cat /dev/zero >"$0/fill" 2>/dev/null
"$@" || echo "exit code $?"
rm "$0/fill"
cd "$0" && find . -type f ! -name '*.lock' | sort
cat config jlab/known_hosts
"""
OURS = "./jlab/.made-by-jlab-proxy\n"
OURS += "./jlab/connect.py\n./jlab/id\n./jlab/known_hosts\n./jlab/lock\n"
FILES = f"./config\n{OURS}./key\n./key.pub\n./known_hosts\n"


@pytest.fixture(scope="module")
def site(mounts: None) -> Iterator[Loopback]:
    """With a session, and a laptop that is set up."""
    with Loopback() as made:
        made.wait_for_session(made.start_session())
        setup = made.proxy("setup", "demo", "--yes", "--port", str(free_port()))
        subprocess.run(setup, check=True, stdin=subprocess.DEVNULL)
        subprocess.run(made.proxy("close", "demo"), check=True)
        made.add_alias("other", made.port)
        yield made


def on_a_full_disk(site: Loopback, command: list[str]) -> tuple[str, str]:
    """What it prints and says; nothing that was in the files has changed."""
    kept = site.config.read_text() + (site.laptop / "jlab" / "known_hosts").read_text()
    done = finished(["unshare", "--mount", "sh", "-c", FULL, str(site.laptop), *command])
    assert done.stdout.endswith(kept), done
    printed = done.stdout[: -len(kept)]
    files = "".join(f"{line}\n" for line in printed.splitlines() if line.startswith("./"))
    assert files.replace("./jlab/seen\n", "") == FILES
    return printed.replace(files, ""), done.stderr


@pytest.mark.parametrize("words", [("other",), ("demo", "--port", "1")], ids=["new", "changed"])
def test_setup(site: Loopback, words: tuple[str, ...]) -> None:
    printed, said = on_a_full_disk(site, site.proxy("setup", *words, "--yes"))
    assert printed.endswith("exit code 1\n")
    (sentence,) = said.splitlines()
    assert sentence.startswith("jlab-proxy: cannot write ")
    assert sentence.endswith(": No space left on device")


def test_remove(site: Loopback) -> None:
    printed, said = on_a_full_disk(site, site.proxy("setup", "demo", "--remove", "--yes"))
    assert printed.endswith("exit code 1\n")
    assert said == f"jlab-proxy: cannot write {site.config}: No space left on device\n"


def test_the_way_into_the_job(site: Loopback) -> None:
    """No file has to grow for that."""
    assert on_a_full_disk(site, site.ssh("jlab+demo", "echo here")) == ("here\n", "")


def test_the_list(site: Loopback) -> None:
    """The names in it are kept for completion, if there is room."""
    printed, said = on_a_full_disk(site, site.proxy("ls"))
    assert "demo" in printed
    assert said == ""
