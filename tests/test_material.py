"""What is asked: bodies are scored as they stand in their files."""

from pytest_collabcode.settings import make_settings
from pytest_collabcode.workbench import open_workbench

FILE = """# Copyright Acme. All rights reserved.

def {name}(x):
    \"\"\"{doc}\"\"\"
{blank}    a = x + {n}
    b = a * {n}

    c = b - {n}
    d = c / {n}
    e = d ** {n}
    return a, b, c, d, e
"""


def test_bodies_begin_with_the_blank_lines_of_their_files(tmp_path):
    for number, blank in enumerate(["", "\n", "    \n\n"] * 10):
        name = f"f{number}_{len(blank)}"
        text = FILE.format(name=name, doc=f"Do {number}.\n\n    Well.", blank=blank, n=number)
        (tmp_path / "acme").mkdir(exist_ok=True)
        (tmp_path / "acme" / f"{name}.py").write_text(text)
    (tmp_path / "c.toml").write_text(
        'name = "c"\nseed = 1\n[organizations.acme]\nlicence = "MIT"\nsources = ["dir:acme"]\n'
    )
    options = {"consortium": str(tmp_path / "c.toml"), "profile": "smoke", "store": str(tmp_path)}
    material = open_workbench(make_settings(directory=tmp_path, options=options)).material
    expected = {"0": 0, "1": 1, "6": 2}  # by what stands in the file
    for stratum in ("natural", "heldout"):
        chosen = material.extraction_prompts(stratum)
        asked = {p.task_id: p.canonical_solution for p in material.prompts(stratum)}
        assert 0 < len(chosen) <= material.profile.extraction_prompts_per_organization
        for problem in chosen:
            size = problem.prompt.partition("(")[0].rpartition("_")[2]
            assert problem.canonical_solution == "\n" * expected[size] + asked[problem.task_id]
