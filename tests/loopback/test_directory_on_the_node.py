"""The session's directory on the node: what lies beside it, and what others do to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.loopback.light import light

if TYPE_CHECKING:
    from loopback import Loopback


def test_data_in_what_jlab_tmpdir_names_stays(site: Loopback) -> None:
    """Directories that have nothing of ours, also where the session's own directory lies."""
    scratch = site.root / "data"  # a short path: sockets are made in it
    data = [scratch / "thesis/chapter1/text", scratch / "file", scratch / site.tmp.name / "x/data"]
    for path in data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")
        path.parent.chmod(0o755)
    (scratch / site.tmp.name).chmod(0o700)
    scratch.chmod(0o750)
    session = site.start_session(*light(site.root), env={"JLAB_TMPDIR": str(scratch)})
    site.wait_for_session(session)
    assert (scratch / site.tmp.name / "lab.sock").exists()
    session.terminate()
    assert session.wait(timeout=60) == 143
    assert [path.read_text() for path in data] == ["precious"] * 3
    assert [path.parent.stat().st_mode & 0o777 for path in data] == [0o755, 0o750, 0o755]
