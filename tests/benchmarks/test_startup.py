"""What the plugin costs a project that never uses it: two collections in alternation, with and without it."""

import statistics
import subprocess
import sys
import time

ROUNDS = 9
BUDGET_S = 0.2


def collect(folder, *options):
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def test_an_unrelated_project_pays_little(benchmark, tmp_path):
    (tmp_path / "test_x.py").write_text("def test_x():\n    pass\n")
    pairs = [(collect(tmp_path), collect(tmp_path, "-p", "no:collabcode")) for _ in range(ROUNDS)]
    extra = statistics.median(with_ - without for with_, without in pairs)
    benchmark.extra_info["extra_s"] = extra
    benchmark.pedantic(collect, args=(tmp_path,), rounds=3, warmup_rounds=1)
    assert extra <= BUDGET_S
