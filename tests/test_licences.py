"""Licence expressions judged by what a recipient may choose, and tags read from files."""

import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.licenses import _spdx

from pytest_collabcode.corpus.curate import curate
from pytest_collabcode.corpus.folders import read_folder
from pytest_collabcode.corpus.jsonlines import read_jsonl
from pytest_collabcode.corpus.reading import Reading
from pytest_collabcode.corpus.wheels import read_wheel
from pytest_collabcode.licences import MAX_CHARACTERS, TAGGED_LINES, is_copyleft, is_known, tagged_licence

COPYLEFT = (
    "GPL-2.0-only",
    "GPL-3.0-or-later",
    "GPL-2.0+",
    "gpl-2.0",
    "LGPL-3.0-or-later",
    "LGPL-2.1",
    "AGPL-3.0",
    "MPL-2.0",
    "EPL-2.0",
    "CDDL-1.0",
    "EUPL-1.2",
    "OSL-3.0",
    "CC-BY-SA-4.0",
    "CC-BY-NC-SA-4.0",
    "MS-RL",
    "Sleepycat",
    "CECILL-2.1",
)
PERMISSIVE = (
    "MIT",
    "Apache-2.0",
    "BSD-3-Clause",
    "ISC",
    "CC-BY-4.0",
    "CC0-1.0",
    "Unlicense",
    "PSF-2.0",
    "Python-2.0",
    "MS-PL",
    "CECILL-B",
    "EPICS",
    "MPEG-SSG",
    "Zlib",
    "0BSD",
)


@pytest.mark.parametrize("name", COPYLEFT)
def test_share_alike_licences_are_copyleft_and_known(name):
    assert is_copyleft(name) and is_known(name)


@pytest.mark.parametrize("name", PERMISSIVE)
def test_permissive_licences_are_not(name):
    assert not is_copyleft(name) and is_known(name)


@pytest.mark.parametrize(
    ("text", "copyleft", "known"),
    [
        ("MIT OR GPL-2.0", False, True),
        ("MIT AND GPL-2.0", True, True),
        ("GPL-2.0 OR MPL-2.0", True, True),
        ("MIT OR Apache-2.0 AND GPL-2.0", False, True),  # AND binds first
        ("(MIT OR Apache-2.0) AND GPL-2.0", True, True),
        ("(MIT AND (GPL-2.0-only OR BSD-3-Clause))", False, True),
        ("((LGPL-2.1-only))", True, True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True, True),
        ("Apache-2.0 WITH LLVM-exception", False, True),
        ("mit or gpl-2.0", False, True),
        ("Acme-Private-1.0", False, False),
        ("LicenseRef-Acme", False, False),
        ("NOASSERTION", False, False),
        ("", False, False),
        ("GPL-2.0, MIT", True, False),  # no expression: as if all held
        ("MIT GPL-2.0", True, False),
        ("(MIT OR GPL-2.0", True, False),
        ("MIT OR", False, False),
        ("OR", False, False),
        ("()", False, False),
        ("GPLv2", False, False),  # no identifier; said by is_known
        ("MIT OR () OR GPL-2.0", True, False),
    ],
)
def test_expressions_are_judged_by_what_the_recipient_may_choose(text, copyleft, known):
    assert (is_copyleft(text), is_known(text)) == (copyleft, known)


IDENTIFIERS = st.sampled_from([*COPYLEFT, *PERMISSIVE, "Acme-1.0"])
TREES = st.recursive(
    IDENTIFIERS,
    lambda inner: st.tuples(st.sampled_from(["AND", "OR"]), inner, inner),
    max_leaves=6,
)


def written(tree):
    return tree if isinstance(tree, str) else f"({written(tree[1])} {tree[0]} {written(tree[2])})"


def judged(tree):
    if isinstance(tree, str):
        return tree in COPYLEFT
    both = judged(tree[1]), judged(tree[2])
    return any(both) if tree[0] == "AND" else all(both)


@given(TREES)
def test_any_nesting_equals_the_formula_evaluated_leaf_by_leaf(tree):
    assert is_copyleft(written(tree)) == judged(tree)


@given(st.text(alphabet="()+- .ANDORWITHGPLM20", max_size=80))
def test_no_text_is_an_error(text):
    assert is_copyleft(text) in (True, False) and is_known(text) in (True, False)


@pytest.mark.parametrize("text", ["(" * 10**6, "(MIT OR " * 10**5 + "MIT" + ")" * 10**5, "MIT " * 10**5])
def test_a_hostile_expression_is_unknown_and_cheap(text):
    assert len(text) > MAX_CHARACTERS and not is_known(text) and not is_copyleft(text)


def test_every_identifier_of_the_gnu_families_is_copyleft_and_no_bsd_or_mit_is():
    names = [entry["id"] for entry in _spdx.LICENSES.values()]
    gnu = [name for name in names if name.startswith(("GPL-", "LGPL-", "AGPL-", "GFDL-"))]
    free = [name for name in names if name.startswith(("BSD-", "MIT", "Apache-", "X11", "ISC"))]
    assert len(gnu) > 40 and all(map(is_copyleft, gnu))
    assert len(free) > 30 and not any(map(is_copyleft, free))


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("# SPDX-License-Identifier: MPL-2.0\n", "MPL-2.0"),
        ('"""A module.\n\nSPDX-License-Identifier: GPL-2.0-only OR MIT\n"""\n', "GPL-2.0-only OR MIT"),
        ("/* SPDX-License-Identifier: (MIT OR Apache-2.0)  */", "(MIT OR Apache-2.0)"),
        ("<!-- SPDX-License-Identifier: MIT -->", "MIT"),
        ("# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: MIT\n", "MIT"),
        ("# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: GPL-2.0 OR MIT\n", "MIT AND (GPL-2.0 OR MIT)"),
        ("# SPDX-License-Identifier:\nx = 1\n", ""),
        ("TAG = 'SPDX-License-Identifier: GPL-3.0'\n", ""),
        ("\n" * (TAGGED_LINES - 1) + "# SPDX-License-Identifier: MIT", "MIT"),
        ("\n" * TAGGED_LINES + "# SPDX-License-Identifier: MIT", ""),
        ("x = 1\n", ""),
        ("", ""),
    ],
)
def test_a_file_names_its_licence_in_its_first_lines(text, licence):
    assert tagged_licence(text) == licence


@pytest.mark.parametrize("kind", ["dir", "jsonl", "wheel"])
def test_a_tag_in_a_file_goes_before_the_licence_of_its_source(kind, tmp_path):
    files = {"a.py": "# SPDX-License-Identifier: MPL-2.0\nx = 1\n", "b.py": "x = 2\n", "c.py": "x = 3\n"}
    own = {"a.py": "MIT", "b.py": "gpl-3.0", "c.py": None}  # a JSON line's own, before the source's
    reading = Reading(kind)
    if kind == "dir":
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        read_folder(tmp_path, reading, prefix="p", licence="MIT")
    elif kind == "wheel":
        with zipfile.ZipFile(tmp_path / "p.whl", "w") as wheel:
            for name, text in files.items():
                wheel.writestr(name, text)
        read_wheel(tmp_path / "p.whl", reading, prefix="p", licence="MIT")
    else:
        records = [{"repo_name": "p", "path": n, "content": t, "license": own[n]} for n, t in files.items()]
        (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, records)))
        read_jsonl(tmp_path / "p.jsonl", reading, licence="MIT")
    licences = {file.path: file.licence for file in reading.files}
    assert licences == {"p/a.py": "MPL-2.0", "p/b.py": "gpl-3.0" if kind == "jsonl" else "MIT", "p/c.py": "MIT"}


def test_a_document_keeps_the_licence_of_its_file():
    text = "# SPDX-License-Identifier: GPL-2.0-only\n" + "".join(f"def f{i}():\n    x{i} = {i}\n" for i in range(9))
    reading = Reading("dir:x")
    reading.add("p/a.py", text.encode(), licence="MIT")
    [document], dropped = curate(reading.files, "acme", seed=1)
    assert (document.licence, dropped) == ("GPL-2.0-only", [])
