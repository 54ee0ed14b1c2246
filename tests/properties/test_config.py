"""Our block in any ssh config: nobody else's line is touched, and taking it out undoes it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jlab_proxy.errors import JlabError
from jlab_proxy.ssh_config import document, text_file
from tests.jlab_proxy.test_sshconfig import FILES, as_ssh_reads, block, proxy_command

from .strategies import fewer, hostile_bytes, hostile_text, is_shown_safely

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

TARGETS = ["demo", "demo+gpu", "other", "other+a.b"]
HERE = Path("/home/alice/.ssh")
BLOCKS = {where: document.render(block(HERE, where)) for where in TARGETS}

text_of = st.sampled_from(
    [content.decode("utf-8", "surrogateescape") for content in FILES.values()]
)
markers = st.builds(
    "# {} jlab+{} {}{}".format,
    st.sampled_from([">>>", "<<<"]),
    st.sampled_from([*TARGETS, "", ".", "+"]),
    st.sampled_from([">>>", "<<<"]),
    st.sampled_from(["", "\n", "\r\n", " mine\n"]),
)
ours = st.builds(
    lambda where, end, blank: BLOCKS[where].replace("\n", end) + blank,
    st.sampled_from(TARGETS),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\n", "\r\n", " \n", "\x0c\n"]),
)
wrong_port = st.sampled_from(["0", "65536", "99999"]).map(
    lambda port: BLOCKS["demo"].replace("Forward 127.0.0.1:8888", f"Forward {port}")
)
mine = st.one_of(
    text_of,
    hostile_text.map(lambda text: text.encode("utf-8", "replace").decode()),
    hostile_bytes.map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.sampled_from(["\n", "\r\n", "Host gricad\n", "    User alice\r\n", "# x"]),
)


@st.composite
def configs(draw: st.DrawFn) -> str:
    """A file with anything in it, our own blocks and halves of such."""
    text = "".join(draw(st.lists(mine | ours | wrong_port | markers, max_size=6)))
    return text[: len(text) - draw(st.integers(0, 2))]


blocks: SearchStrategy[document.Block] = st.builds(
    lambda where, port, mux: block(HERE, where, port=port, mux=mux),
    st.sampled_from(TARGETS),
    st.integers(1, 65535),
    st.booleans(),
)


def without_blocks_of(text: str, host: str) -> str:
    """Without those of its sessions as well, which may be moved."""
    sessions = [each for each in document.hosts(text) if each.startswith(f"{host}+")]
    return document.remove(text, host, *sessions)


@given(configs(), blocks)
@example(BLOCKS["demo+gpu"][:-1], block(HERE, "demo"))
@example("\n" + BLOCKS["demo+gpu"], block(HERE, "demo"))
@example(2 * BLOCKS["demo"], block(HERE, "demo", port=1))
def test_merge_and_remove(text: str, new: document.Block) -> None:
    host = new.target.host
    try:
        merged = document.merge(text, new)
    except JlabError as error:
        assert is_shown_safely(str(error))
        with pytest.raises(JlabError, match="half of a pair"):
            document.hosts(text)
        return
    assert document.merge(merged, new) == merged
    assert document.is_at_top(merged, host)
    assert document.hosts(merged) == document.hosts(text) | {host}
    assert document.ports(merged)[host] == new.port
    before, after = without_blocks_of(text, host), without_blocks_of(merged, host)
    # What ends a file without a newline gets one where our block comes to stand below it.
    assert after in (before, before + "\n", before + "\r\n")
    if after != before:
        assert document.hosts(before)
        assert not before.endswith("\n")
    if host not in document.hosts(text):
        assert document.remove(text, host) == text


@given(configs(), st.sampled_from(TARGETS))
def test_no_other_line_is_changed(text: str, where: str) -> None:
    try:
        merged = document.merge(text, block(HERE, where))
        removed = without_blocks_of(text, f"jlab+{where}")
    except JlabError:
        return
    assert "".join(each for each in merged.split("\n") if each).count("\r") >= removed.count("\r")
    kept = iter(merged.split("\n"))
    assert all(line in kept for line in removed.split("\n")[:-1]), "in the same order"


@given(hostile_bytes)
def test_any_bytes_survive_the_disk(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = str(tmp_path_factory.getbasetemp() / "bytes")
    Path(path).write_bytes(content)
    text_file.write(path, text_file.read(path))
    assert Path(path).read_bytes() == content


@given(configs())
def test_whatever_stands_in_it_is_looked_at_without_harm(text: str) -> None:
    try:
        for host in document.hosts(text):
            assert document.block_of(text, host)
            document.is_at_top(text, host)
        assert all(1 <= port <= 65535 for port in document.ports(text).values())
    except JlabError as error:
        assert is_shown_safely(str(error))


whole = st.lists(text_of | st.sampled_from(list(BLOCKS.values())), max_size=4).map("\n".join)


@fewer(100)
@given(
    st.lists(text_of | st.sampled_from(list(BLOCKS.values())), max_size=4).map("\n".join), blocks
)
def test_real_ssh_reads_the_same_for_other_hosts(
    tmp_path_factory: pytest.TempPathFactory, text: str, new: document.Block
) -> None:
    directory = tmp_path_factory.getbasetemp()
    (directory / "included").write_bytes(b"Host gricad\n    User included\n")
    path = directory / "config"
    text = text.replace("@DIR@", str(directory))
    found = []
    for version in (text, document.merge(text, new)):
        path.write_text(version, "utf-8", "surrogateescape", newline="")
        found.append({host: as_ssh_reads(path, host) for host in ("gricad", "x.example.org")})
    assert found[0] == found[1]


@given(st.text(st.characters(min_codepoint=1, max_codepoint=0x2FF), min_size=1, max_size=8))
@example("'")
@example("\\")
def test_a_host_s_name_is_one_word_of_the_shell_or_not_ours(name: str) -> None:
    command = proxy_command(BLOCKS["demo"], f"jlab+demo+{name}")
    if command:
        assert shlex.split(command)[2] == f"jlab+demo+{name}"
        assert not set(name) & set("`$;&|<>(){}'\\ ~!#")
