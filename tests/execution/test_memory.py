"""What a program finds when it reads all of its own memory: itself, and nothing of a test or an earlier program."""

import contextlib
import textwrap

import pytest

from pytest_collabcode.execution.policy import DEFAULT_LIMITS
from pytest_collabcode.execution.sandbox import open_sandbox
from pytest_collabcode.execution.trial import try_program
from pytest_collabcode.records import Problem

OWN, TEST, EARLIER_TEST, EARLIER, MAPPED = (
    f"{word}-7f3a9c51" for word in ("own", "test", "earlier-test", "earlier-program", "mapped")
)

# Reads outward from every place it knows, over gaps of some MB, by having the kernel write each page to a pipe: a
# page that cannot be read is an error then, no crash. Words are looked for, and asked for, encoded, so that no search
# finds itself; the last one is put into a mapping of its own first, which shows that such places are found.
SCAN = """
import ctypes, gc, os
libc = ctypes.CDLL(None)
libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
table = bytes(b ^ 0x55 for b in range(256))
mapped = bytearray(1 << 21)
mapped[9000:9000 + len(x[-1]) // 2] = bytes.fromhex(x[-1]).translate(table)
reader, writer = os.pipe()
def read(page):
    return os.read(reader, 4096) if libc.write(writer, page << 12, 4096) == 4096 else b""
here = ctypes.c_long()
known = [id(o) for o in gc.get_objects()] + [id(x), id(1), ctypes.addressof(here)]
known += [ctypes.cast(f, ctypes.c_void_p).value for f in (libc.write, libc.malloc)]
words, found, seen = [bytes.fromhex(word) for word in x], [False] * len(x), set()
for start in sorted({address >> 12 for address in known}):
    for step in (1, -1):
        page, before, missed = start, b"", 0
        while missed < 2048 and (page not in seen or page == start):
            seen.add(page)
            text = read(page).translate(table)
            missed = 0 if text else missed + 1
            both = before + text if step > 0 else text + before
            found = [f or w in both for f, w in zip(found, words)]
            page, before = page + step, text
return found
"""


def encoded(words):
    return [bytes(b ^ 0x55 for b in word.encode()).hex() for word in words]


@pytest.fixture(params=[False, True], ids=["confined", "unsafe"])
def worker(request):
    with contextlib.closing(open_sandbox(unsafe=request.param).start()) as worker:
        yield worker


def test_a_program_finds_itself_in_its_memory_and_nobody_else(worker):
    prompt = f'def answer(x):\n    """{OWN}"""\n'
    check = (
        f"def check(candidate):\n    # {TEST}\n    assert candidate({{words}}) == [True, False, False, False, True]\n"
    )
    earlier = Problem(
        task_id="e", prompt=f"# {EARLIER}\n{prompt}", test=f"# {EARLIER_TEST}\n{check}", entry_point="answer"
    )
    try_program(worker, DEFAULT_LIMITS, earlier, "    return 1\n")
    test = check.format(words=encoded([OWN, TEST, EARLIER_TEST, EARLIER, MAPPED]))
    problem = Problem(task_id="t", prompt=prompt, test=test, entry_point="answer")
    ruling = try_program(worker, DEFAULT_LIMITS, problem, textwrap.indent(SCAN, "    "))
    assert ruling.outcome == "passed", ruling


def test_a_program_finds_no_file_of_an_earlier_one(worker):
    test = "def check(candidate): assert candidate(1) == []\n"
    problem = Problem(task_id="t", prompt="def answer(x):\n", test=test, entry_point="answer")
    leaves = (
        "    import os; open('conftest.py', 'w'); open('sitecustomize.py', 'w'); os.mkdir('d'); return os.listdir()\n"
    )
    assert try_program(worker, DEFAULT_LIMITS, problem, leaves).outcome == "failed"
    assert try_program(worker, DEFAULT_LIMITS, problem, "    import os; return os.listdir()\n").outcome == "passed"
