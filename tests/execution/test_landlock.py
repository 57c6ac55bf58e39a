"""What is asked of the kernel, by version; that the kernel agrees is test_hostile's and test_unsafe's matter."""

import struct

import pytest

from pytest_collabcode.execution import landlock


@pytest.mark.parametrize(
    ("version", "n_bytes", "n_file_rights"),
    [(1, 8, 13), (2, 8, 14), (3, 8, 15), (4, 16, 15), (5, 16, 16), (6, 24, 16), (7, 24, 16)],
)
def test_a_kernel_is_asked_for_what_its_version_knows(monkeypatch, tmp_path, version, n_bytes, n_file_rights):
    calls = []
    monkeypatch.setattr(landlock, "version", lambda: version)
    monkeypatch.setattr(landlock, "system_call", lambda *call: calls.append(call) or 99)
    monkeypatch.setattr(landlock.os, "close", lambda file: None)
    (tmp_path / "file").touch()
    rules = landlock.make_rules([str(tmp_path)], [str(tmp_path), str(tmp_path / "file")])
    landlock.enforce(rules)
    (_, attributes, size, _), *added, last = calls
    every_right = (1 << n_file_rights) - 1
    assert (len(attributes), size) == (n_bytes, n_bytes)
    assert struct.unpack_from("=Q", attributes) == (every_right,)
    granted = [struct.unpack("=Qi", rule[3])[0] for rule in added]
    assert granted == [0b1101, every_right, every_right & 0b100000000000111]
    assert last == (446, 99, 0)
