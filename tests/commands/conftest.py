"""What the tests of `collabcode execute` share: its files, and a run of it whose programs are seen from outside."""

import json
import subprocess
import sys

import pytest

from pytest_collabcode.cli import main

WATCHED = """
import os, sys
from pytest_collabcode.cli import main
from pytest_collabcode.execution import crew

log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
original = crew.try_program

def watched(worker, limits, problem, completion):
    name = f"{problem.task_id} {completion!r}\\n"
    os.write(log, b"begun " + name.encode())
    ruling = original(worker, limits, problem, completion)
    os.write(log, b"ended " + name.encode())
    return ruling

crew.try_program = watched
exec(sys.argv[2])
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture
def files(tmp_path):
    """Write problems and generations, as objects or lines; return the arguments of the command."""

    def write(problems, generations, out="o.jsonl"):
        for name, objects in (("p", problems), ("g", generations)):
            with (tmp_path / f"{name}.jsonl").open("w", encoding="utf-8") as stream:
                stream.writelines(o if isinstance(o, str) else json.dumps(o) + "\n" for o in objects)
        shown = {"problems": tmp_path / "p.jsonl", "generations": tmp_path / "g.jsonl", "out": tmp_path / out}
        return ["execute", *(f"--{key}={path}" for key, path in shown.items())]

    return write


@pytest.fixture
def run(capsys):
    """Run the command here; return its exit code, output and errors."""

    def run(arguments):
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def out(tmp_path):
    """Where results go."""
    return tmp_path / "o.jsonl"


@pytest.fixture
def start(tmp_path):
    """Start the command in a process of its own, which notes outside every sandbox what it begins and ends to run."""

    def start(arguments, first=""):
        command = [sys.executable, "-c", WATCHED, str(tmp_path / "log"), first, *arguments]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    return start


@pytest.fixture
def seen(tmp_path):
    """Return the programs that were begun, or ended, in the order in which they were."""

    def seen(word):
        log = tmp_path / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{word} ")]

    return seen
