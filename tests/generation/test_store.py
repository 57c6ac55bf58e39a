"""Nothing is drawn twice, nothing is served to another model, and a kill loses what is under way."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.generation.store import (
    ASKED_AT_ONCE,
    CHARACTERS,
    Compute,
    Portions,
    generation_digest,
    portions,
    stored_generations,
    stored_rows,
)
from pytest_collabcode.journal import Journal
from pytest_collabcode.records import Checkpoint, Generation, Problem, PromptConventions, Sampling
from pytest_collabcode.store import Store

CHECKPOINT = Checkpoint(name="a", path=Path("a"), weights_digest="w", tokenizer_digest="t", n_parameters=1)
PROBLEMS = [Problem(task_id=f"t/{i}", prompt=f"p{i}") for i in range(4)]
SAMPLING = Sampling(n_samples=2)


class Fake:
    """A backend that notes what it is asked for and dies after `dies_after` completions."""

    checkpoint = CHECKPOINT

    def __init__(self, dies_after: int = 1000) -> None:
        self.asked: list[tuple[str, int]] = []
        self._dies_after = dies_after

    def draw(
        self, requests: Sequence[tuple[Problem, int]], sampling: Sampling, *, progress: Any, on_batch: Any
    ) -> None:
        for problem, index in requests:
            if len(self.asked) == self._dies_after:
                raise KeyboardInterrupt
            self.asked.append((problem.task_id, index))
            on_batch([completion(problem, index)])


class Foreign:
    """A backend that only knows the protocol."""

    checkpoint = CHECKPOINT

    def generate(self, problems: Sequence[Problem], sampling: Sampling) -> list[Generation]:
        return [completion(p, i) for p in problems for i in range(sampling.n_samples)]


def completion(problem: Problem, index: int) -> Generation:
    text = f"{problem.prompt}/{index} é\n\u2028"
    reason = {"n_tokens": 3, "duration_s": 0.5, "stop_reason": "eos"}
    return Generation(task_id=problem.task_id, sample_index=index, completion=text, **reason)


def expected(problems: Sequence[Problem], n: int) -> list[Generation]:
    return [completion(p, i) for p in problems for i in range(n)]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Store(tmp_path).journal("generations", generation_digest(CHECKPOINT, "task", SAMPLING))


def stored(backend: Any, problems: Sequence[Problem], sampling: Sampling, *, journal: Journal) -> list[Generation]:
    return list(stored_generations(backend, problems, sampling, journal=journal))


def never(*_: object) -> Any:
    raise AssertionError("the model was loaded though nothing is missing")


def test_a_second_run_loads_no_model(journal: Journal) -> None:
    first = stored(Fake, PROBLEMS, SAMPLING, journal=journal)
    assert first == expected(PROBLEMS, 2)
    assert stored(never, PROBLEMS, SAMPLING, journal=journal) == first
    assert stored(never, PROBLEMS[1:2], SAMPLING, journal=journal) == first[2:4]


def test_a_killed_run_goes_on_where_it_was(journal: Journal) -> None:
    with pytest.raises(KeyboardInterrupt):
        stored(lambda: Fake(dies_after=3), PROBLEMS, SAMPLING, journal=journal)
    with journal.path.open("ab") as stream:
        stream.write(b'12345678 ["t/1#1#')  # a line torn by the kill
    second = Fake()
    assert stored(lambda: second, PROBLEMS, SAMPLING, journal=journal) == expected(PROBLEMS, 2)
    assert len(second.asked) == 5 and ("t/1", 1) in second.asked


@pytest.mark.parametrize("foreign", [False, True])
def test_ten_samples_after_one_draw_nine(journal: Journal, foreign: bool) -> None:
    one, ten = replace(SAMPLING, n_samples=1), replace(SAMPLING, n_samples=10)
    stored(Fake, PROBLEMS, one, journal=journal)
    lines = len(journal.path.read_bytes().splitlines())
    backend: Any = Foreign() if foreign else Fake()
    assert stored(lambda: backend, PROBLEMS, ten, journal=journal) == expected(PROBLEMS, 10)
    assert len(journal.path.read_bytes().splitlines()) - lines == 9 * len(PROBLEMS)
    assert generation_digest(CHECKPOINT, "task", one) == generation_digest(CHECKPOINT, "task", ten)


def test_a_changed_prompt_under_the_same_task_is_drawn_again(journal: Journal) -> None:
    stored(Fake, PROBLEMS, SAMPLING, journal=journal)
    changed = [replace(PROBLEMS[0], prompt="other"), *PROBLEMS[1:]]
    backend = Fake()
    assert stored(lambda: backend, changed, SAMPLING, journal=journal) == expected(changed, 2)
    assert backend.asked == [("t/0", 0), ("t/0", 1)]


@pytest.mark.parametrize(
    ("checkpoint", "task", "sampling"),
    [
        (replace(CHECKPOINT, weights_digest="x"), "task", SAMPLING),
        (replace(CHECKPOINT, tokenizer_digest="x"), "task", SAMPLING),
        (replace(CHECKPOINT, conventions=PromptConventions(prefix="x")), "task", SAMPLING),
        (CHECKPOINT, "other", SAMPLING),
        (CHECKPOINT, "task", replace(SAMPLING, seed=2)),
        (CHECKPOINT, "task", replace(SAMPLING, temperature=0.1)),
        (CHECKPOINT, "task", replace(SAMPLING, stop=("x",))),
    ],
    ids=["weights", "tokenizer", "conventions", "task", "seed", "temperature", "stop"],
)
def test_whatever_a_text_depends_on_opens_another_journal(
    checkpoint: Checkpoint, task: str, sampling: Sampling
) -> None:
    assert generation_digest(checkpoint, task, sampling) != generation_digest(CHECKPOINT, "task", SAMPLING)


def test_name_and_path_of_a_checkpoint_do_not_matter() -> None:
    moved = replace(CHECKPOINT, name="b", path=Path("b"))
    assert generation_digest(moved, "task", SAMPLING) == generation_digest(CHECKPOINT, "task", SAMPLING)


def test_a_record_of_another_shape_is_drawn_again(journal: Journal) -> None:
    stored(Fake, PROBLEMS[:1], SAMPLING, journal=journal)
    key = next(iter(journal.read()))
    journal.path.unlink()
    journal.append({key: {"task_id": "t/0"}})
    backend = Fake()
    stored(lambda: backend, PROBLEMS[:1], SAMPLING, journal=journal)
    assert backend.asked == [("t/0", 0), ("t/0", 1)]


class Wordy(Fake):
    """Completions of four thousand characters."""

    def draw(
        self, requests: Sequence[tuple[Problem, int]], sampling: Sampling, *, progress: Any, on_batch: Any
    ) -> None:
        for start in range(0, len(requests), 64):
            texts = [completion(problem, index) for problem, index in requests[start : start + 64]]
            on_batch([replace(g, completion=g.completion * 500) for g in texts])


def test_memory_does_not_grow_with_the_texts(journal: Journal) -> None:
    def peak_of(n_samples: int) -> float:
        tracemalloc.start()
        try:
            wanted = replace(SAMPLING, n_samples=n_samples)
            drawn = stored_generations(Wordy, PROBLEMS, wanted, journal=journal)
            assert sum(len(generation.completion) for generation in drawn) > 4000 * len(drawn)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_of(50)
    few, many = peak_of(250), peak_of(2250)  # 800 are drawn, then 8,000
    assert (many - few) / 8000 < 1000


def test_a_back_end_that_leaves_a_sample_out_is_named(journal: Journal) -> None:
    class Lazy(Foreign):
        def generate(self, problems: Sequence[Problem], sampling: Sampling) -> list[Generation]:
            return super().generate(problems, sampling)[:-1]

    backend: Any = Lazy()
    with pytest.raises(MeasurementError, match="t/3#1: the back end gave no completion"):
        stored(lambda: backend, PROBLEMS, SAMPLING, journal=journal)


@pytest.mark.parametrize("asked_before", [1, 2, 3])
def test_a_back_end_that_knows_only_whole_problems_loses_one_call_by_a_kill(
    tmp_path: Path, asked_before: int
) -> None:
    journal, asked = Store(tmp_path).journal("generations", "d"), []
    problems = [Problem(task_id=f"t/{i}", prompt=f"p{i}") for i in range(3 * ASKED_AT_ONCE - 1)]

    class Mortal(Foreign):
        def generate(self, problems: Sequence[Problem], sampling: Sampling) -> list[Generation]:
            if len(asked) == asked_before:
                raise KeyboardInterrupt
            asked.append([problem.task_id for problem in problems])
            return super().generate(problems, sampling)

    backend: Any = Mortal()
    if asked_before < 3:
        with pytest.raises(KeyboardInterrupt):
            stored(lambda: backend, problems, SAMPLING, journal=journal)
        asked_before = 4
    assert stored(lambda: backend, problems, SAMPLING, journal=journal) == expected(problems, 2)
    assert [len(some) for some in asked] == [ASKED_AT_ONCE, ASKED_AT_ONCE, ASKED_AT_ONCE - 1]
    assert [task_id for some in asked for task_id in some] == [problem.task_id for problem in problems]


def test_only_rows_that_are_missing_are_computed_and_a_kill_loses_one_portion(tmp_path: Path) -> None:
    journal, asked = Store(tmp_path).journal("scores", "d"), []
    texts = [f"text {i % 40}" for i in range(50)]

    def compute(missing: Sequence[str]) -> list[list[Any]]:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(missing)
        return [[len(text), float("-inf")] for text in missing]

    def begin() -> tuple[Compute, Portions]:
        return compute, portions(None)

    with pytest.raises(KeyboardInterrupt):
        stored_rows(texts, begin, journal=journal)
    assert len(journal.read()) == 2 * ASKED_AT_ONCE
    kept, told = asked.copy(), []
    asked.clear()
    rows = stored_rows(texts, begin, journal=journal, progress=lambda *words: told.append(words))
    assert rows == [[len(text), float("-inf")] for text in texts]
    computed = [text for some in kept + asked for text in some]
    assert len(computed) == 40 and set(computed) == set(texts)
    assert told == [(8, 8, "scoring")]
    assert "text 1" not in journal.path.read_text()
    stored_rows([*texts, "text 40"], begin, journal=journal)
    assert asked[1:] == [["text 40"]]
    assert stored_rows(texts, never, journal=journal) == rows


def test_the_rest_of_a_portion_is_computed_beside_the_same_texts_as_ever(tmp_path: Path) -> None:
    """Else a run that goes on after a kill would round otherwise than an undisturbed one."""
    texts, asked = ["a" * n for n in range(1, 90)], []

    def compute(missing: Sequence[str]) -> list[list[Any]]:
        asked.append(tuple(missing))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return [[len(text)] for text in missing]

    def begin() -> tuple[Compute, Portions]:
        return compute, portions(100, window=20)

    undisturbed, killed = (Store(tmp_path).journal("scores", name) for name in ("undisturbed", "killed"))
    asked += [(), (), ()]
    stored_rows(texts, begin, journal=undisturbed)
    once = asked[3:]
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        stored_rows(texts, begin, journal=killed)
    again = asked.copy()
    asked += [()]
    stored_rows(texts, begin, journal=killed)
    assert again == once[:3] and asked[4:] == once[2:] and len(once) > 5


@pytest.mark.parametrize(("n_tokens", "window"), [(None, None), (1, None), (60, None), (60, 8), (10_000, 5)])
def test_portions_hold_every_text_once_and_no_more_than_one_pass_takes(
    n_tokens: int | None, window: int | None
) -> None:
    texts = ["x" * (37 * i % 101) for i in range(70)]

    def size(text: str) -> int:
        return max(1, min(-(-len(text) // CHARACTERS), window or len(text)))

    divided = [[size(texts[number]) for number in numbers] for numbers in portions(n_tokens, window=window)(texts)]
    numbers = [number for numbers in portions(n_tokens, window=window)(texts) for number in numbers]
    assert sorted(numbers) == list(range(70))
    for sizes, following in zip(divided, [*divided[1:], []], strict=True):
        padded = len(sizes) * max(sizes)
        assert len(sizes) <= ASKED_AT_ONCE if n_tokens is None else len(sizes) == 1 or padded <= n_tokens
        if following:  # one more would not have fitted
            assert len(sizes) == ASKED_AT_ONCE if n_tokens is None else padded + max(sizes) > n_tokens


def test_what_another_run_has_scored_meanwhile_is_not_scored_again(tmp_path: Path) -> None:
    journal, texts = Store(tmp_path).journal("scores", "d"), ["a", "b"]

    def begin() -> tuple[Compute, Portions]:  # while the model is loaded, another run fills the journal
        stored_rows(texts, lambda: (lambda some: [[7] for _ in some], portions(None)), journal=journal)
        return never, portions(None)

    assert stored_rows(texts, begin, journal=journal) == [[7], [7]]
