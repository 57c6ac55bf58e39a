"""A step waits for the device a few times at most, whatever the number of rows and layers."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from pytest_collabcode.generation.decoders import own_decoder
from pytest_collabcode.generation.graphs import bucket
from pytest_collabcode.generation.running import Row, Run
from pytest_collabcode.generation.slots import Slots
from pytest_collabcode.generation.stopping import Stopper
from pytest_collabcode.records import Generation, Problem, Sampling

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "unique")
NEW_TOKENS = 12
SAMPLED = Sampling(temperature=0.6, top_p=0.6, repetition_penalty=1.1, max_new_tokens=NEW_TOKENS)
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Waits(TorchDispatchMode):
    """Counts what reads a value of a tensor back into Python."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if name in WAITS or any(isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in indices(name, args)):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def indices(name: str, args: Any) -> list[Any]:
    return list(args[1]) if name in ("index", "index_put_", "_index_put_impl_") else []


def model(n_layers: int) -> LlamaForCausalLM:
    torch.manual_seed(1)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    found = LlamaForCausalLM(LlamaConfig(num_hidden_layers=n_layers, vocab_size=4000, **shape)).eval()
    with torch.no_grad():
        found.model.norm.weight.fill_(300.0)  # peaked as a trained model's, so that no nucleus is widened
    return found


def rows(n: int, n_prompts: int) -> list[Row]:
    prompts = [list(range(1, 30 - 3 * i)) for i in range(n_prompts)]
    return [Row(Problem(task_id="t", prompt="x"), i, prompts[i % n_prompts]) for i in range(n)]


def ignored(generation: Generation) -> None:
    """Nobody is told."""


class Silent:
    """A tokenizer that is never asked for more than the final text."""

    def decode(self, ids: list[int], **_: bool) -> str:
        return "x" * len(ids)


@pytest.mark.parametrize("sampling", [SAMPLED, Sampling(max_new_tokens=NEW_TOKENS)], ids=["sampled", "greedy"])
@pytest.mark.parametrize(("n_rows", "n_layers"), [(2, 1), (2, 6), (30, 1), (30, 6)])
def test_reads_per_step_do_not_grow_with_rows_or_layers(
    n_rows: int, n_layers: int, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_steps: list[Counter[str]] = []
    inside: list[int] = []
    lists: list[int] = []
    step, forward, tolist = Run._step, Slots.step, torch.Tensor.tolist

    def counted(self: Run, slots: Slots) -> None:
        lists.clear()
        with Waits() as waits:
            step(self, slots)
        of_steps.append(waits.counts + Counter(tolist=len(lists)))

    def watched(self: Slots, tokens: torch.Tensor) -> torch.Tensor:
        with Waits() as waits:
            logits = forward(self, tokens)
        inside.append(waits.counts.total())
        return logits

    def noted(self: torch.Tensor) -> Any:
        lists.append(1)
        return tolist(self)

    monkeypatch.setattr(Run, "_step", counted)
    monkeypatch.setattr(Slots, "step", watched)
    monkeypatch.setattr(torch.Tensor, "tolist", noted)
    run = Run(own_decoder(model(n_layers)), Stopper(Silent(), [], []), sampling, ignored)
    run.run(rows(n_rows, 2), None)
    assert len(of_steps) == NEW_TOKENS - 1 and run.n_rows == n_rows
    assert set(inside) == {0}  # the forward pass itself reads nothing
    assert max(counts.total() for counts in of_steps) <= 2  # is every nucleus complete; the tokens
    assert all(counts["tolist"] == 1 for counts in of_steps)


def test_the_counter_counts() -> None:
    x = torch.tensor([1.0, 2.0])
    with Waits() as waits:
        x[0].item(), bool((x > 1).any()), x[x > 1], x.nonzero()
    assert waits.counts.total() == 4


def test_rows_of_several_prompts_join_and_leave_without_a_gap() -> None:
    """More rows than fit together: each is finished once, with as many tokens as it may have."""
    finished: list[tuple[int, int]] = []
    run = Run(
        own_decoder(model(2)),
        Stopper(Silent(), [], []),
        SAMPLED,
        lambda generation: finished.append((generation.sample_index, generation.n_tokens)),
    )
    run.run(rows(23, 5), 9)
    assert sorted(finished) == [(i, NEW_TOKENS) for i in range(23)] and run.n_rows == 9


class Spelled:
    """A tokenizer whose text tells the tokens."""

    def decode(self, ids: list[int], **_: bool) -> str:
        return "".join(f"<{number}>" for number in ids)


class Eager:
    """What `Graphs` does on a GPU, without recording: it holds on to the rows as a recorded step does."""

    def __init__(self, step: Any) -> None:
        self._step = step

    def __call__(self, n: int, width: int, *, limits: tuple[int, int]) -> torch.Tensor:
        return self._step(*bucket(n, width, limits=limits))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Slots]]:
    """The slots that were made, each with its rows in one block and its steps run as on a GPU."""
    made: list[weakref.ref[Slots]] = []
    init = Slots.__init__

    def as_on_a_gpu(self: Slots, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs, block_rows=kwargs["rows"])
        self._graphs = Eager(self._forward)  # type: ignore[assignment]
        made.append(weakref.ref(self))

    monkeypatch.setattr(Slots, "__init__", as_on_a_gpu)
    return made


def completed(the_rows: list[Row], batch_size: int | None, kept: list[Slots]) -> set[tuple[int, str]]:
    found = set()
    run = Run(
        own_decoder(model(2)),
        Stopper(Spelled(), [], []),
        SAMPLED,
        lambda generation: found.add((generation.sample_index, generation.completion)),
        kept=kept,
    )
    run.run(the_rows, batch_size)
    return found


@pytest.mark.parametrize("memory_runs_out", [False, True])
def test_a_run_lets_its_rows_go_and_leaves_nothing_to_the_garbage_collector(
    memory_runs_out: bool, made: list[weakref.ref[Slots]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(self: Run, slots: Slots) -> None:
        raise torch.OutOfMemoryError("out of memory")

    if memory_runs_out:
        monkeypatch.setattr(Run, "_step", step)
    gc.disable()
    try:
        with suppress(torch.OutOfMemoryError):
            completed(rows(6, 2), 4, [])
        assert [slots() for slots in made] == [None]
    finally:
        gc.enable()


def test_slots_of_an_earlier_run_give_what_new_ones_give(made: list[weakref.ref[Slots]]) -> None:
    expected = completed(rows(5, 2), 4, [])
    decoder = own_decoder(model(2))
    slots = Slots(decoder, rows=4, new_tokens=NEW_TOKENS)
    slots.admit(decoder.read([list(range(1, 40))]), [0])
    for some in (rows(9, 3), rows(5, 2)):
        found = completed(some, 4, [slots])
    assert found == expected and len(made) == 2  # none beside those without any kept, and these


@pytest.mark.parametrize(
    ("made_for", "n_made"),
    [({"rows": 3}, 2), ({"new_tokens": NEW_TOKENS - 1}, 2), ({"rows": 9, "new_tokens": 99}, 1)],
)
def test_slots_that_are_too_small_are_made_anew(
    made_for: dict[str, int], n_made: int, made: list[weakref.ref[Slots]]
) -> None:
    decoder = own_decoder(model(2))
    kept = [Slots(decoder, **{"rows": 4, "new_tokens": NEW_TOKENS, **made_for})]
    kept[0].admit(decoder.read([list(range(1, 40))]), [0])
    assert completed(rows(5, 2), 4, kept) == completed(rows(5, 2), 4, [])
    assert len(made) == n_made + 1 and kept == []


@cuda
def test_a_step_on_a_gpu_waits_for_its_tokens_and_the_end_of_nuclei_only(monkeypatch: pytest.MonkeyPatch) -> None:
    step, waits = Run._step, list[int]()

    def watched(self: Run, slots: Slots) -> None:
        recorded = slots._graphs.n_recorded
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                step(self, slots)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        if slots._graphs.n_recorded == recorded and len(self._active) == 8:  # none recorded, nobody left
            waits.append(sum("synchronizing CUDA operation" in str(w.message) for w in caught))

    monkeypatch.setattr(Run, "_step", watched)
    Run(own_decoder(model(2).to("cuda")), Stopper(Silent(), [], []), SAMPLED, ignored).run(rows(8, 2), None)
    assert waits and max(waits) <= 2


@cuda
def test_no_step_on_a_gpu_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Slots.step

    def strict(self: Slots, tokens: torch.Tensor) -> torch.Tensor:
        recorded = self._graphs.n_recorded if self._graphs else 0
        logits = forward(self, tokens)  # records a graph when it is the first of its bucket
        if self._graphs and self._graphs.n_recorded == recorded:
            self._lengths = [length - 1 for length in self._lengths]
            self._ends[: self.n_rows] -= 1
            torch.cuda.set_sync_debug_mode("error")
            try:
                logits = forward(self, tokens)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return logits

    monkeypatch.setattr(Slots, "step", strict)
    run = Run(own_decoder(model(2).to("cuda")), Stopper(Silent(), [], []), SAMPLED, ignored)
    run.run(rows(8, 2), None)


@cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graphs_on_a_gpu_give_the_logits_of_the_step_itself(dtype: torch.dtype) -> None:
    decoder = own_decoder(model(2).to("cuda", dtype))
    prompts = [list(range(1, 20)), [5, 6, 7]]
    with torch.inference_mode():
        found = []
        for recorded in (True, False):
            slots = Slots(decoder, rows=6, new_tokens=4)
            if not recorded:
                slots._graphs = None
            slots.admit(decoder.read(prompts), [0, 0, 1])
            tokens = torch.tensor([[3, 4, 5], [6, 7, 8]], device="cuda")
            found.append([slots.step(own).clone() for own in tokens])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 if dtype == torch.float32 else 0.5, rtol=0.02)
