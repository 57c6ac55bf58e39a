"""The store never believes a half-written result."""

import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from pytest_collabcode import journal as journals
from pytest_collabcode.errors import StoreError
from pytest_collabcode.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_a_torn_last_line_is_ignored_and_does_not_swallow_the_next(store):
    journal = store.journal("scores", "d")
    journal.append({"a": 1, "b": 2})
    data = journal.path.read_bytes()
    for cut in range(1, 12):
        journal.path.write_bytes(data[:-cut])
        assert journal.read() == ({"a": 1} if cut > 1 else {"a": 1, "b": 2})
        journal.append({"c": 3})
        assert journal.read()["c"] == 3


@pytest.mark.parametrize("position", range(0, 40, 3))
def test_a_flipped_byte_is_noticed(store, position):
    journal = store.journal("scores", "d")
    journal.append({"key": "value" * 10})
    data = bytearray(journal.path.read_bytes())
    data[position] ^= 1
    journal.path.write_bytes(bytes(data))
    assert journal.read() == {}


def test_a_failed_publish_leaves_nothing_and_an_older_result_stays(store):
    target = store.checkpoint("d")
    with store.publish(target) as directory:
        (directory / "x").write_text("old")
    with pytest.raises(RuntimeError), store.publish(target) as directory:
        (directory / "x").write_text("new")
        raise RuntimeError
    assert (target / "x").read_text() == "old"
    assert list((store.root / "partial").iterdir()) == []


@pytest.mark.parametrize(
    ("make", "reason"),
    [(lambda path: path.touch(), "Not a directory"), (lambda path: path.symlink_to(path), "Too many")],
)
def test_space_is_not_blamed_for_what_it_did_not_do(tmp_path, make, reason):
    make(tmp_path / "x")
    with pytest.raises(StoreError, match=f"x/downloads cannot be written: {reason}.*; choose another") as raised:
        _ = Store(tmp_path / "x").downloads
    assert "free" not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to imitate a full disk")
def test_a_full_disk_is_one_sentence_naming_path_and_space(store):
    journal = store.journal("scores", "d")
    journal.path.symlink_to("/dev/full")
    told = r"cannot be written: No space left on device \([\d,]+ MB free\); free some space or choose another"
    with pytest.raises(StoreError, match=told):
        journal.append({"a": 1})


def test_a_record_altered_after_it_was_read_is_not_believed(store):
    journal = store.journal("scores", "d")
    journal.append({"a": "one", "b": "two"})
    records = journal.read()
    values = records.ordered(["b", "a"], make=str.upper)
    journal.append({"a": "three"})  # what was read stays
    assert (list(values), values[-1], list(values[:1]), records["a"]) == (["TWO", "ONE"], "ONE", ["TWO"], "one")
    journal.path.write_bytes(journal.path.read_bytes().replace(b"one", b"0ne"))
    assert values[0] == "TWO"
    with pytest.raises(StoreError, match=r"d\.jsonl was altered while this run used it; run it again"):
        list(values)
    journal.path.unlink()
    with pytest.raises(StoreError, match="cannot be read again: No such file"):
        _ = records["b"]


def _in_a_child(work, *arguments):
    """Return how a process ended that did this."""
    child = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    child.start()
    child.join(60)
    return child.exitcode


def _append_and_die_unsynced(journal):
    os.fsync = None
    with journal.filling():
        for number in range(5):
            journal.append({f"{number}": number})
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_appended_outlives_a_kill_that_comes_before_any_sync(store):
    journal = store.journal("scores", "d")
    assert _in_a_child(_append_and_die_unsynced, journal) == -signal.SIGKILL
    assert journal.read() == {f"{number}": number for number in range(5)}
    with journal.filling():  # nobody holds it any more
        journal.append({"5": 5})
    assert len(journal.read()) == 6


def test_a_lone_append_is_synced_and_so_is_a_hold_now_and_then_and_at_its_end(store, monkeypatch):
    journal, synced, sync = store.journal("scores", "d"), [], os.fsync

    def counted(descriptor):
        sync(descriptor)
        synced.append(len(journal.read()))

    monkeypatch.setattr(os, "fsync", counted)
    journal.append({"a": 1})
    assert synced == [1]
    with journal.filling():
        for key in "bcd":
            journal.append({key: 1})
            with journal.filling():  # held by us already
                assert key in journal.read()
        assert synced == [1]
        monkeypatch.setattr(journals, "SYNC_EVERY_S", 0)
        journal.append({"e": 1})
        assert synced == [1, 5]
    assert synced == [1, 5, 5]
    with journal.filling():
        pass
    assert synced == [1, 5, 5]


def _meet_a_full_disk(journal):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with journal.filling():
        journal.append({"a": 1})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))  # of the second, half a line fits
        try:
            journal.append({"b": "x" * 200})
        except StoreError:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            journal.append({"c": 3})
            os._exit(7)


def test_half_a_line_that_a_full_disk_left_does_not_swallow_the_next_of_the_same_hold(store):
    journal = store.journal("scores", "d")
    assert _in_a_child(_meet_a_full_disk, journal) == 7
    assert journal.path.stat().st_size > 100 and journal.read() == {"a": 1, "c": 3}


def test_a_journal_that_is_deleted_while_it_is_filled_is_named(store):
    journal = store.journal("scores", "d")
    told = r"d\.jsonl was deleted while this run wrote to it; run it again"
    with pytest.raises(StoreError, match=told), journal.filling():
        journal.append({"a": 1})
        store.clean(("scores",))
        journal.append({"b": 1})
    (store.root / "scores").mkdir()
    journal.append({"c": 1})  # and it is not held for ever
    assert journal.read() == {"c": 1}


def _append_for_ever(root, name):
    journal = Store(root).journal("scores", "shared")
    for i in range(100_000):
        journal.append({f"{name}-{i}": "x" * 200})


def test_two_writers_one_killed_lose_nothing_that_was_synced(store):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_for_ever, args=(store.root, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    journal = store.journal("scores", "shared")
    deadline = time.monotonic() + 20
    while len(journal.read()) < 60 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(writers[0].pid, signal.SIGKILL)
    before = journal.read()
    journal.append({"after": 1})  # the lock of the killed writer does not block
    time.sleep(0.1)
    writers[1].kill()
    for writer in writers:
        writer.join()
    after = journal.read()
    assert before.items() <= after.items() and after["after"] == 1
    for name in "ab":
        numbers = sorted(int(k.split("-")[1]) for k in after if k.startswith(f"{name}-"))
        assert numbers == list(range(len(numbers)))
