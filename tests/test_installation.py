"""Installed from a wheel or editable, the suites and fixtures come along and run from another folder."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("editable", [False, True], ids=["regular", "editable"])
def test_the_suites_come_with_the_package(tmp_path, editable):
    # The dependencies are those of this environment; only the project itself is installed anew.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    folder = next((tmp_path / "venv" / "lib").iterdir()) / "site-packages"
    (folder / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", ROOT, source], check=True)
    arguments = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "--ignore-installed"]
    target = ["-e", str(source)] if editable else [str(source)]
    subprocess.run([python, "-m", "pip", "install", *arguments, *target], check=True, cwd=tmp_path)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [python, "-m", "pytest", "--pyargs", "pytest_collabcode.suites", "--collect-only", "-q"]
    run = subprocess.run(
        [*command, "--collabcode-regime=fedavg", "-p", "no:cacheprovider"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "test_memorization.py::test_natural_code_of[demo/fedavg-google]" in run.stdout
    code = "import pytest_collabcode as p; print(p.__file__)"
    where = subprocess.run([python, "-c", code], cwd=elsewhere, capture_output=True, text=True, check=True).stdout
    assert where.startswith(str(source if editable else tmp_path / "venv"))
