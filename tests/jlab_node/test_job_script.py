"""The job script: what it asks for, and what it does when bash runs it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from jlab_node import schedulers
from jlab_node.errors import JlabError
from jlab_node.jobs import matching
from jlab_node.schedulers import job_script
from jlab_node.schedulers.base import JobRequest, Scheduler, State, Status

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = JobRequest("jlab", 2, 0, None, 14400, "", "", "/tmp/jlab-logs/jlab")
BATCH = [schedulers.TABLE[name] for name in ("slurm", "oar", "pbs", "sge", "lsf")]
each = pytest.mark.parametrize("scheduler", BATCH, ids=lambda scheduler: scheduler.NAME)
# Says how it was called and where; the session's process in these tests.
FAKE = (
    '#!/bin/bash\nprintf "%s\\n" "ran in ${WHERE-no environment}" "${XDG_RUNTIME_DIR-unset}" "$@"\n'
)
CONDA = """#!/bin/bash
# As much of conda as the script uses.
cat <<'END'
conda() {
    [ "$1 $2" = "activate dl" ] || [ "$1 $2" = "activate $HOME/envs/dl" ] || return 1
    export WHERE=conda PATH="$HOME/envs/dl/bin:$PATH"
}
END
"""


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [
        ("16G", 16384),
        ("16g", 16384),
        ("16GB", 16384),
        ("16GiB", 16384),
        ("1.5T", 1572864),
        ("500M", 500),
        (" 4096k ", 4),
    ],
)
def test_memory_parses_amounts(text: str, megabytes: int) -> None:
    assert job_script.memory(text) == megabytes


@pytest.mark.parametrize("text", ["", "16", "G", "0G", "1K", "-1G", "16 G", "16G\n#", "1e3G", "²G"])
def test_memory_rejects_other_text(text: str) -> None:
    with pytest.raises(JlabError, match="is not an amount of memory: write it as 16G"):
        job_script.memory(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4:00:00", 14400),
        ("04:00:30", 14430),
        ("1-12:00:00", 129600),
        ("100:00:00", 360000),
        ("4h", 14400),
        ("4H", 14400),
        ("90m", 5400),
        ("1d12h", 129600),
        ("1h30m", 5400),
        ("45s", 45),
    ],
)
def test_walltime_parses_times(text: str, seconds: int) -> None:
    assert job_script.walltime(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "4", "4:00", "0:00:00", "0h", "1:60:00", "1h1h", "4 h", "-4h", "1-4h", "²h"]
)
def test_walltime_rejects_other_text(text: str) -> None:
    with pytest.raises(JlabError, match="is not a time: write it as 4:00:00"):
        job_script.walltime(text)


def render(scheduler: Scheduler = BATCH[0], environment: str = "", **changes: object) -> str:
    directory = str(changes.pop("notebook_dir", ""))
    request = replace(REQUEST, **changes)  # type: ignore[arg-type]
    return job_script.render(scheduler, request, environment=environment, notebook_dir=directory)


@each
@pytest.mark.parametrize("environment", ["", "dl", "/opt/envs/dl"])
def test_bash_can_read_it(scheduler: Scheduler, environment: str) -> None:
    text = render(scheduler, environment, name="jlab-gpu", account="ml", partition="long")
    subprocess.run(["bash", "-n"], input=text, encoding="utf-8", check=True)
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    directives = scheduler.directives(
        replace(REQUEST, name="jlab-gpu", account="ml", partition="long")
    )
    assert lines[1 : 1 + len(directives)] == directives
    assert lines[-1] == 'exec jlab-node run --name gpu -- --notebook-dir="$HOME"'
    assert scheduler.SUBMIT_COMMAND.partition(" ")[0] in text


@each
def test_connect_knows_the_job(scheduler: Scheduler) -> None:
    for name in ("lab", "gpu", "a.b-c_d"):
        text = render(scheduler, "dl", name=job_script.job_name(name))
        status = Status(
            "1", State.QUEUED, name=job_script.job_name(name), command="/home/u/jlab.sh"
        )
        assert matching.session_names(status, text) == [name]
        assert matching.session_names(status, "") == [name], "by the job's name alone"


HOSTILE = ["a b", "a#b", "a\n#SBATCH --uid=0", "a;b", '"', "'", "$(x)", "`x`", "-x", "a\x1b", "é"]


def refused(sentence: str, scheduler: Scheduler, **options: str) -> None:
    with pytest.raises(JlabError, match=sentence):
        print(f"{options} gave:\n{render(scheduler, **options)}")


@each
def test_nothing_breaks_out_of_a_directive(scheduler: Scheduler) -> None:
    for value in HOSTILE:
        for key in ("account", "partition"):
            refused(f"--{key} .* is not a name", scheduler, **{key: value})
        for name in (value, f"jlab-{value}", "jlab-", "other"):
            refused("cannot be the name of the job", scheduler, name=name)
        bad = "relative" if value == "-x" else f"/home/{value}"
        refused("cannot be the log", scheduler, log=f"{bad}/jlab")


@pytest.mark.parametrize("path", ["relative", "/a\nb", "/a\x1b[31m", "/a\0b"])
def test_paths_are_absolute_and_printable(path: str) -> None:
    with pytest.raises(JlabError, match="not an absolute path of printable characters"):
        render(notebook_dir=path)
    if "/" in path:
        with pytest.raises(JlabError, match="not an absolute path of printable characters"):
            render(environment=path)
    with pytest.raises(JlabError, match="neither a path nor"):
        render(environment="$(reboot)")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory whose name wants quoting."""
    made = tmp_path / "it's $HOME"
    made.mkdir()
    return made


def run(text: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script in what a batch job has of an environment."""
    env = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "XDG_RUNTIME_DIR": "/run/user/1",
        **variables,
    }
    return subprocess.run(
        ["bash"], input=text, cwd=home, env=env, capture_output=True, encoding="utf-8", check=False
    )


def body(home: Path, environment: str, **changes: Any) -> str:
    logs = home.parent / "logs" / "jlab"
    return render(environment=environment, log=str(logs), **changes)


@pytest.mark.parametrize("directory", ["env", "env with 'quotes' and $x"])
def test_script_activates_a_venv(home: Path, directory: str) -> None:
    venv = home / directory
    write(venv / "bin/activate", f"export WHERE=venv PATH={shlex.quote(str(venv / 'bin'))}:$PATH\n")
    write(venv / "bin/jlab-node", FAKE)
    data = "/data/it's #1; $(touch evil)"
    done = run(body(home, str(venv), name="jlab-gpu", notebook_dir=data), home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "ran in venv",
        "unset",
        *["run", "--name", "gpu", "--", f"--notebook-dir={data}"],
    ]
    assert not (home / "evil").exists()
    assert (home.parent / "logs").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("where", ["miniconda3", "miniforge3", "anaconda3", "PATH", "CONDA_EXE"])
def test_script_activates_a_conda_environment(home: Path, where: str) -> None:
    conda = write(home / where / "bin/conda", CONDA)
    write(home / "envs/dl/bin/jlab-node", FAKE)
    variables = {
        "PATH": {"PATH": f"{conda.parent}:/usr/bin:/bin"},
        "CONDA_EXE": {"CONDA_EXE": str(conda)},
    }.get(where, {})
    for environment in ("dl", str(home / "envs/dl")):
        done = run(body(home, environment), home, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        expected = ["ran in conda", "unset", "run", "--", f"--notebook-dir={home}"]
        assert done.stdout.splitlines() == expected


def test_script_says_what_is_missing(home: Path) -> None:
    """Each is one sentence in the job's log."""
    for environment in ("dl", str(home / "nothing")):
        done = run(body(home, environment), home)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "jlab: conda is not on PATH here, nor in ~/miniconda3, ~/miniforge3 or ~/anaconda3: "
            "write `module load ...` into the job script, or name a path with --env\n"
        )
    write(home / "miniconda3/bin/conda", CONDA)
    done = run(body(home, "other"), home)
    assert (done.returncode, done.stderr) == (1, "jlab: there is no conda environment other\n")
    done = run(body(home, "dl"), home)
    assert done.returncode == 1
    assert done.stderr == "jlab: dl has no jlab-node: type `pip install jlab-remote` in it\n"


def test_script_without_env_uses_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = write(home / "own/bin/jlab-node", FAKE)
    monkeypatch.setattr(sys, "prefix", str(home / "prefix"))
    monkeypatch.setattr(sys, "argv", [str(own)])
    done = run(body(home, ""), home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[2:] == ["run", "--", f"--notebook-dir={home}"]


@pytest.mark.parametrize(
    ("name", "variable", "value"), [("pbs", "PBS_JOBID", "12.pbs-1"), ("lsf", "LSB_JOBID", "12")]
)
def test_log_while_it_runs(home: Path, name: str, variable: str, value: str) -> None:
    """Of those that copy the log when the job ends."""
    text = render(schedulers.TABLE[name], "dl", log=str(home.parent / "logs/jlab"))
    done = run(text, home, **{variable: value})
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert "conda is not on PATH" in (home.parent / "logs/jlab-12.log").read_text("utf-8")


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jlab_node", "script", *arguments],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_script_command_prints_the_script(tmp_path: Path) -> None:
    done = command(
        tmp_path,
        *["slurm", "--name", "gpu", "--cpus", "4", "--gpus", "1", "--mem", "16G", "--time", "1d"],
        *["--project", "ml", "--queue", "long", "--env", "~/envs/dl", "--notebook-dir", "~/work"],
    )
    logs = tmp_path / "jlab-logs"
    assert done.returncode == 0
    assert done.stderr == f"jlab-node: made {logs} for the logs of the jobs\n"
    for line in (
        *["#SBATCH --job-name=jlab-gpu", "#SBATCH --cpus-per-task=4", "#SBATCH --gpus=1"],
        *["#SBATCH --mem=16384M", "#SBATCH --time=24:00:00", "#SBATCH --account=ml"],
        *["#SBATCH --partition=long", f"#SBATCH --output={logs}/jlab-gpu-%j.log"],
        f"environment={tmp_path}/envs/dl",
        f"exec jlab-node run --name gpu -- --notebook-dir={tmp_path}/work",
    ):
        assert line in done.stdout.splitlines()
    assert logs.stat().st_mode & 0o777 == 0o700
    again = command(tmp_path, "slurm")
    assert (again.returncode, again.stderr) == (0, "")
    assert "exec jlab-node run -- " in again.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["slurm", "--mem", "much"], 1),
        (["slurm", "--mem", ""], 1),
        (["slurm", "--time", "soon"], 1),
        (["slurm", "--account", "a b"], 1),
        (["slurm", "--log-dir", "/tmp/a b"], 1),
        (["slurm", "--log-dir", "/dev/null/x"], 1),
        (["slurm", "--cpus", "0"], 2),
        (["slurm", "--name", "A b"], 2),
        (["local"], 2),
        ([], 2),
    ],
)
def test_script_command_refuses_wrong_usage(
    tmp_path: Path, arguments: list[str], code: int
) -> None:
    done = command(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "jlab-logs").exists()


@pytest.mark.skipif(not shutil.which("script"), reason="no script(1) on this machine")
def test_script_command_on_a_terminal_says_what_is_next(tmp_path: Path) -> None:
    """A person is told what to type next."""
    line = shlex.join([sys.executable, "-m", "jlab_node", "script", "oar", "--cpus", "2"])
    done = subprocess.run(
        ["script", "-qec", line, "/dev/null"],
        env={**os.environ, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    last = [line.strip() for line in done.stdout.splitlines()][-2:]
    assert last == [
        "Next:   jlab-node script oar --cpus 2 > jlab.sh",
        "chmod +x jlab.sh && oarsub -S ./jlab.sh",
    ]
