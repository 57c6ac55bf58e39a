"""What README shows runs as shown."""

import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()
THRESHOLDS = """schema = 1
consortium = "tiny"
own_metrics = ["acme.short"]
[[threshold]]
id = "short"
metric = "acme.short"
at_least = 0.01
[[threshold]]
id = "learnt"
metric = "perplexity_gain_over_unigram"
at_least = 1.05
"""
# The organizations of the demo, as the consortium of the tests has them.
NAMES = {"meta>microsoft>google": "zeta>acme", '"meta"': '"acme"'}


def run(pytester, tiny_options, suite):
    pytester.makepyfile(test_acme=suite)
    (pytester.path / "t.toml").write_text(THRESHOLDS)
    options = [*tiny_options, "--collabcode-thresholds=t.toml", "--collabcode-regime=centralized"]
    result = pytester.runpytest_subprocess(*options, timeout=300)
    return "\n".join(result.outlines + result.errlines)


def test_the_ten_line_suite_runs(pytester, tiny_options):
    suite = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    assert len([line for line in suite.split("\n") if line.strip()]) <= 10
    text = run(pytester, tiny_options, suite)
    assert "short acme.short = " in text and "2 passed" in text, text


def test_every_fixture_example_runs(pytester, tiny_options, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # throughput is not timed beside other tests
    rows = re.findall(r"^\| (`.*?) \| .*? \| `(.*)` \|$", README, re.MULTILINE)
    names = [re.findall(r"`(\w+)`", fixtures) for fixtures, _ in rows]
    assert {"model", "consortium", "memorization", "throughput", "gate"} <= {name for row in names for name in row}
    lines = [
        "from pytest_collabcode.records import Problem, Sampling",
        "problems = [Problem(task_id='a', prompt='def f():')]",
    ]
    for number, (_, example) in enumerate(rows):
        for written, here in NAMES.items():
            example = example.replace(written, here)
        asked = sorted(set(re.findall(r"\w+", example)) & ({n for row in names for n in row}))
        lines.append(f"def test_{number}({', '.join(asked)}):\n    {example}")
    text = run(pytester, tiny_options, "\n".join(lines))
    assert f"{len(rows)} passed" in text, text


def test_every_option_that_readme_names_exists(pytester):
    text = pytester.runpytest_subprocess("--help", timeout=60).stdout.str()
    for option in re.findall(r"--collabcode-\w+", README):
        assert option in text, option
