"""What demo, bench and tests leave behind of the machine and of whoever runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"
_LEAVE = f"""
import json, os, shutil, sys
sys.path.insert(0, {str(SCRIPTS)!r})
import surroundings
surroundings.leave()
found = [each for each in sys.argv[1:] if shutil.which(each)]
runs = os.popen("a-tool").read()
print(json.dumps([dict(os.environ), found, runs, os.umask(0)]))
"""
NAMES = ("a-tool", "squeue", "srun", "oarsub", "qstat", "pbsnodes", "bjobs", "sort", "scp")


def test_leave_keeps_what_finds_programs_and_packages(tmp_path: Path) -> None:
    bin_directory = tmp_path / "with a blank"
    bin_directory.mkdir()
    for name in NAMES:
        (bin_directory / name).write_text("#!/bin/sh\necho it runs\n")
        (bin_directory / name).chmod(0o755)
    kept = {"HOME": "/home/u", "LC_ALL": "C.UTF-8", "PIP_INDEX_URL": "u"}
    left = {"SLURM_JOB_ID": "1", "JLAB_TMPDIR": "/x", "PYTHONPATH": "/x", "https_proxy": "/x"}
    done = subprocess.run(
        ["/bin/sh", "-c", 'umask 077; exec "$0" "$@"', sys.executable, "-c", _LEAVE, *NAMES],
        env={"PATH": f"{bin_directory}:/nowhere", **kept, **left},
        check=True,
        capture_output=True,
        text=True,
    )
    environment, found, runs, umask = json.loads(done.stdout)
    assert found == ["a-tool", "sort", "scp"]
    assert runs == "it runs\n"
    assert umask == 0o022
    path = environment.pop("PATH")
    environment.pop("LC_CTYPE", None)  # Python's own
    assert environment == kept
    assert path.endswith(":/nowhere")
    assert not Path(path.partition(":")[0]).exists(), "it goes with the process"
