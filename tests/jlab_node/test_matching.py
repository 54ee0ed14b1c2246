"""Which jobs will be a session: by name, command and script."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jlab_node.jobs import matching
from jlab_node.schedulers.base import State, Status

NOW = 1_800_000_000
JOB = Status("12", State.QUEUED, name="work", command="/home/u/job.sh")


@pytest.mark.parametrize(
    ("script", "names"),
    [
        pytest.param("jlab-node run\n", ["lab"], id="without a name"),
        pytest.param("jlab-node run", ["lab"], id="the last line has no end"),
        pytest.param("exec /opt/x/bin/jlab-node run -- --debug\n", ["lab"], id="by its path"),
        pytest.param("python3 -m jlab_node run\n", ["lab"], id="as a module"),
        pytest.param("conda run -n dl jlab-node run --name gpu\n", ["gpu"], id="--name gpu"),
        pytest.param("jlab-node run --name=gpu\n", ["gpu"], id="--name=gpu"),
        pytest.param("jlab-node run --name  gpu\n", ["gpu"], id="two spaces"),
        pytest.param('jlab-node run --name "gpu"\n', ["gpu"], id="double quotes"),
        pytest.param("jlab-node run --name='gpu'\n", ["gpu"], id="single quotes"),
        pytest.param("jlab-node run --name a.b-c_d;\n", ["a.b-c_d"], id="every character"),
        pytest.param("jlab-node run \\\n    --name gpu \\\n    -- -x\n", ["gpu"], id="continued"),
        pytest.param("jlab-node \\\n  run --name \\\n gpu\n", ["gpu"], id="continued twice"),
        pytest.param(
            "jlab-node run --name a &\njlab-node run --name b &\nwait\n", ["a", "b"], id="two"
        ),
        pytest.param("jlab-node run --name a & jlab-node run --name b\n", ["a", "b"], id="a line"),
        pytest.param(
            "command -v jlab-node >/dev/null || exit 1\njlab-node run --name gpu\n",
            ["gpu"],
            id="looked for before",
        ),
        pytest.param("# jlab-node run\nsleep 9\n", [], id="a comment"),
        pytest.param("sleep 9 # then jlab-node run\n", [], id="a comment behind"),
        pytest.param("#SBATCH --job-name=jlab-node\nsleep 9\n", [], id="a directive"),
        pytest.param(
            "# jlab-node run --name old\njlab-node run\n", ["lab"], id="the name of a comment"
        ),
        pytest.param(
            "jlab-node run # not: --name old\n", ["lab"], id="the name of a comment behind"
        ),
        pytest.param(
            "docker run --name db postgres\njlab-node run\n", ["lab"], id="the name of another"
        ),
        pytest.param('jlab-node run --name "$1"\n', None, id="a variable"),
        pytest.param("jlab-node run --name=lab$N\n", None, id="half a variable"),
        pytest.param("myjlab-nodes run\n", [], id="part of a word"),
        pytest.param("[ $# -gt 0 ] && jlab-node run\n", ["lab"], id="a count of arguments"),
        pytest.param("n=${#a[@]}; jlab-node run --name b\n", ["b"], id="a count of elements"),
        pytest.param("echo 'job #1' && jlab-node run\n", ["lab"], id="a number sign in quotes"),
        pytest.param('echo "job # 1"; jlab-node run\n', ["lab"], id="in double quotes"),
        pytest.param("echo \\# jlab-node run\n", ["lab"], id="escaped"),
        pytest.param('"$HOME/my jlab/bin/jlab-node" run\n', ["lab"], id="a quoted path"),
        pytest.param("bash -lc 'jlab-node run --name gpu'\n", ["gpu"], id="for another shell"),
        pytest.param("jlab-node $VERB --name gpu\n", ["gpu"], id="the verb is a variable"),
        pytest.param("export PATH=/opt/jlab-node-0.2/bin:$PATH\n", [], id="part of a path"),
        pytest.param("pip install jlab-node-x\n", [], id="another package"),
        pytest.param("jlab-node ls; jlab-node setup\n", [], id="other verbs"),
        pytest.param("python train.py\n", [], id="something else"),
        pytest.param("", [], id="empty"),
        pytest.param("\0\x1b[2J\n#" + "x" * 5000, [], id="no script at all"),
    ],
)
def test_session_names_from_the_script(script: str, names: list[str] | None) -> None:
    assert matching.session_names(JOB, script) == names


@pytest.mark.parametrize(
    ("name", "command", "names"),
    [
        pytest.param("jlab", "", ["lab"], id="the name that jlab-node script gives"),
        pytest.param("jlab-gpu", "", ["gpu"], id="and that of a named session"),
        pytest.param("jlab-node", "/home/u/x.sh", ["node"], id="and of any"),
        pytest.param("jlab-a b", "", None, id="no name of a session"),
        pytest.param(
            "work",
            "#!/bin/bash\n #BSUB -n 1\nexec jlab-node run --name gpu",
            ["gpu"],
            id="a whole script",
        ),
        pytest.param("work", "#!/bin/bash\n# not for jlab\nsleep 9", [], id="a comment in one"),
        pytest.param("my-JLab-gpu", "sleep 9", None, id="part of a name, in capitals"),
        pytest.param("x", "/home/u/jlab.sh", None, id="the script's name"),
        pytest.param("", "./start-jlab gpu", None, id="a relative script's name"),
        pytest.param("x", "jlab-node run", ["lab"], id="a command"),
        pytest.param("x", "jlab-node run --name gpu", ["gpu"], id="a command with a name"),
        pytest.param("jlab-x", "jlab-node run --name=gpu", ["gpu"], id="both"),
        pytest.param("work", "/home/u/job.sh", [], id="neither"),
        pytest.param("", "", [], id="nothing is known"),
    ],
)
def test_session_names_from_name_and_command(
    name: str, command: str, names: list[str] | None
) -> None:
    assert matching.session_names(replace(JOB, name=name, command=command), "") == names


@pytest.mark.parametrize(
    ("script", "wanted", "answer"),
    [
        pytest.param("jlab-node run", None, True, id="any"),
        pytest.param("jlab-node run", "lab", True, id="lab by default"),
        pytest.param("jlab-node run", "gpu", False, id="another"),
        pytest.param("jlab-node run --name gpu", "gpu", True, id="that one"),
        pytest.param("jlab-node run --name gpu2", "gpu", False, id="one that begins so"),
        pytest.param("jlab-node run --name gpu", None, True, id="any, and it has a name"),
        pytest.param("jlab-node run --name $N", "gpu", True, id="perhaps that one"),
        pytest.param("sleep 9", None, False, id="no session"),
        pytest.param("sleep 9", "gpu", False, id="no session, and none of that name"),
    ],
)
def test_will_start_session_of_the_wanted_name(
    script: str, wanted: str | None, *, answer: bool
) -> None:
    assert matching.will_start_session(JOB, script, wanted, now=NOW) is answer


@pytest.mark.parametrize(
    ("script", "wanted", "answer"),
    [
        pytest.param("./notebook.sh", None, True, id="whatever it looks like"),
        pytest.param("./notebook.sh", "gpu", True, id="under every name"),
        pytest.param("jlab-node run --name gpu", "gpu", True, id="its name"),
        pytest.param("jlab-node run --name gpu", "lab", False, id="another's name"),
        pytest.param("jlab-node run", "gpu", False, id="lab by default"),
    ],
)
def test_will_start_session_of_a_job_submitted_for_this(
    script: str, wanted: str | None, *, answer: bool
) -> None:
    assert (
        matching.will_start_session(JOB, script, wanted, now=NOW, submitted_for_this=True) is answer
    )
    for state, starts_at in ((State.ENDED, NOW), (State.RUNNING, NOW - matching.STARTING_PERIOD)):
        over = replace(JOB, state=state, starts_at=starts_at)
        assert not matching.will_start_session(
            over, script, wanted, now=NOW, submitted_for_this=True
        )


def test_job_called_jlab_without_a_known_script_will_be_the_session_lab() -> None:
    job = replace(JOB, name="jlab")
    assert not matching.will_start_session(job, "", "gpu", now=NOW)
    assert matching.will_start_session(job, "", "lab", now=NOW)
    assert matching.will_start_session(job, "", None, now=NOW)


def test_job_called_jlab_whose_script_is_known_will_be_what_that_says() -> None:
    job = replace(JOB, name="jlab")
    assert matching.will_start_session(job, "jlab-node run --name gpu", "gpu", now=NOW)
    assert matching.will_start_session(job, "./start-it", "gpu", now=NOW), "by an unknown way"


@pytest.mark.parametrize(
    ("state", "starts_at", "answer"),
    [
        pytest.param(State.QUEUED, None, True, id="queued"),
        pytest.param(State.QUEUED, NOW + 99999, True, id="queued for long"),
        pytest.param(State.QUEUED, NOW - 99999, True, id="it should have started"),
        pytest.param(State.RUNNING, NOW - 1, True, id="just started"),
        pytest.param(State.RUNNING, NOW - matching.STARTING_PERIOD + 1, True, id="still starting"),
        pytest.param(State.RUNNING, NOW - matching.STARTING_PERIOD, False, id="starting no more"),
        pytest.param(State.RUNNING, NOW + 30, True, id="started by a clock that is ahead"),
        pytest.param(State.RUNNING, None, True, id="started, nobody knows when"),
        pytest.param(State.ENDED, NOW - 1, False, id="ended"),
    ],
)
def test_will_start_session_by_the_jobs_state(
    state: State, starts_at: int | None, *, answer: bool
) -> None:
    job = replace(JOB, state=state, starts_at=starts_at)
    assert matching.will_start_session(job, "jlab-node run", None, now=NOW) is answer


@pytest.mark.parametrize(
    ("command", "paths"),
    [
        pytest.param("/home/u/jlab.sh", ["/home/u/jlab.sh"], id="a script"),
        pytest.param(
            "/home/u/my work.sh -x",
            ["/home/u/my work.sh -x", "/home/u/my work.sh", "/home/u/my"],
            id="with a blank and an argument",
        ),
        pytest.param("jlab.sh", [], id="relative to nobody knows what"),
        pytest.param("./jlab.sh", [], id="relative"),
        pytest.param("~/jlab.sh", [], id="in the home of nobody knows whom"),
        pytest.param("sleep /home/u/jlab.sh", [], id="an argument is no script"),
        pytest.param("", [], id="unknown"),
    ],
)
def test_script_paths_begin_with_an_absolute_word(command: str, paths: list[str]) -> None:
    assert matching.script_paths(replace(JOB, command=command)) == paths
