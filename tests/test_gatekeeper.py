"""The gatekeeper's last word: the last line of a run never contradicts its exit code."""

from types import SimpleNamespace

import pytest

from pytest_collabcode.gatekeeper import Gatekeeper
from pytest_collabcode.records import Corpus, Ruling, Threshold, Verdict
from pytest_collabcode.report.terminal import summarize
from pytest_collabcode.settings import make_settings

PASSED = Verdict(threshold=Threshold(id="a", metric="mrr"), outcome=Ruling.PASS, subject="s")
FAILED = Verdict(threshold=Threshold(id="a", metric="mrr"), outcome=Ruling.FAIL, subject="s")


class Run:
    """A stand-in for the session: reports fail as told, the summary is kept."""

    def __init__(self, failures):
        self.failures, self.said_green, self.lines = failures, [], []
        self.pipeline = SimpleNamespace(
            material=SimpleNamespace(corpus=Corpus(name="c", organizations=())), notices=[]
        )

    def write_reports(self, measurements, verdicts, *, green, partial):
        self.said_green.append(green)
        return self.failures

    def summarize(self, terminal, outcome):
        writer = SimpleNamespace(section=self.lines.append, write_line=lambda line, **_: self.lines.append(line))
        summarize(writer, outcome)


def ended(tmp_path, *, status, verdicts=(PASSED,), proposals=(), failures=(), narrowed=False, afterwards=None):
    """Return the exit code, the last line, and what the reports said."""
    gatekeeper = Gatekeeper(SimpleNamespace(hook=None), make_settings(directory=tmp_path))
    gatekeeper.session, gatekeeper.judged, gatekeeper.narrowed = Run(list(failures)), True, narrowed
    gatekeeper.verdicts, gatekeeper.proposals = list(verdicts), list(proposals)
    session = SimpleNamespace(exitstatus=status)
    gatekeeper.pytest_sessionfinish(session)
    session.exitstatus = afterwards if afterwards is not None else session.exitstatus
    gatekeeper.pytest_terminal_summary(None)
    return int(session.exitstatus), gatekeeper.session.lines[-1], gatekeeper.session.said_green


@pytest.mark.parametrize(
    ("run", "code", "line"),
    [
        ({"status": 0}, 0, "GREEN: 1 verdicts, none blocks"),
        ({"status": 1}, 1, "RED: 0 of 1 verdicts block; a test failed"),
        ({"status": 1, "verdicts": [FAILED]}, 1, "RED: 1 of 1 verdicts block"),
        (
            {"status": 1, "proposals": ["p", "p"]},
            1,
            "RED: 0 of 1 verdicts block; nobody judges 2 of the subjects yet",
        ),
        ({"status": 0, "failures": ["no disk"]}, 1, "RED: 0 of 1 verdicts block; no disk"),
        ({"status": 0, "afterwards": 9}, 9, "RED: 0 of 1 verdicts block; pytest ended with 9"),
        ({"status": 0, "narrowed": True}, 6, "PARTIAL: 1 verdicts, all that were selected passed; this is not a rel"),
        ({"status": 1, "narrowed": True}, 1, "PARTIAL: 1 verdicts, 0 of 1 block; a test failed; this is not a rel"),
        ({"status": 0, "narrowed": True, "failures": ["no disk"]}, 1, "PARTIAL: 1 verdicts, 0 of 1 block; no disk;"),
        ({"status": 5, "narrowed": True, "verdicts": []}, 5, "PARTIAL: 0 verdicts, 0 of 0 block; no test ran;"),
    ],
)
def test_the_last_line_never_contradicts_the_exit_code(tmp_path, run, code, line):
    got, last, _ = ended(tmp_path, **run)
    assert got == code and last.startswith(f"collabcode: {line}"), last
    assert ("GREEN" in last or "all that were selected passed" in last) is (code in (0, 6))


def test_no_report_says_green_of_a_run_that_is_not(tmp_path):
    assert ended(tmp_path, status=0)[2] == [True]
    assert ended(tmp_path, status=1)[2] == [False]
    assert ended(tmp_path, status=0, failures=["no disk"])[2][-1] is False


def test_each_sentence_of_a_proposal_is_printed_once(tmp_path):
    gatekeeper = Gatekeeper(SimpleNamespace(hook=None), make_settings(directory=tmp_path))
    gatekeeper.session, gatekeeper.proposals = Run([]), ["shared", "shared", "other"]
    gatekeeper.session.summarize(None, gatekeeper)
    assert gatekeeper.session.lines[-3:-1] == ["shared", "other"]
