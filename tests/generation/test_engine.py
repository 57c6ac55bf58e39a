"""The engine gives what transformers gives, whatever the batch."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from pytest_collabcode.errors import MeasurementError
from pytest_collabcode.generation import running
from pytest_collabcode.generation.benchmark import reference_config, torch_steps
from pytest_collabcode.generation.decoders.decoder import Decoder, Prefill
from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.generation.slots import Slots
from pytest_collabcode.models.load import LoadedModel
from pytest_collabcode.records import Generation, Problem, PromptConventions, Sampling

GREEDY = Sampling(max_new_tokens=20)
SAMPLED = Sampling(temperature=0.8, top_p=0.9, repetition_penalty=1.1, max_new_tokens=20, n_samples=3)


def plain(generations: list[Generation]) -> list[Generation]:
    return [replace(g, duration_s=0.0) for g in generations]


def test_greedy_text_is_that_of_transformers(every: LoadedModel, problems: list[Problem]) -> None:
    ours = TorchBackend(every).generate(problems, replace(GREEDY, repetition_penalty=1.2))
    config = reference_config(replace(GREEDY, repetition_penalty=1.2), [0])
    for problem, generation in zip(problems, ours, strict=True):
        ids = torch.tensor([every.tokenizer(problem.prompt).input_ids])
        output = every.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
        new = output[0, 1 if every.model.config.is_encoder_decoder else ids.shape[1] :].tolist()
        assert generation.n_tokens == len(new)
        text = every.tokenizer.decode([i for i in new if i], clean_up_tokenization_spaces=False)
        assert generation.completion == text.rstrip("\ufffd")
    assert len({g.completion for g in ours}) > 4  # else equality would say little


def test_the_engine_says_what_it_is(every: LoadedModel) -> None:
    names = {"LlamaForCausalLM": "llama", "GPT2LMHeadModel": "gpt2", "T5ForConditionalGeneration": "t5"}
    assert TorchBackend(every).engine == names.get(type(every.model).__name__, "transformers")
    assert TorchBackend(every, own_decoders=False).engine == "transformers"


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_our_decoders_draw_what_transformers_generate_draws_with_our_sampler(
    every: LoadedModel, problems: list[Problem], sampling: Sampling
) -> None:
    ours = TorchBackend(every).generate(problems, replace(sampling, stop=("de",)))
    theirs = TorchBackend(every, own_decoders=False).generate(problems, replace(sampling, stop=("de",)))
    assert plain(ours) == plain(theirs)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_batch_size_does_not_change_any_token(
    every: LoadedModel, problems: list[Problem], sampling: Sampling
) -> None:
    expected = TorchBackend(every).generate(problems, sampling)
    for batch_size in (2, 7) if TorchBackend(every).engine == "transformers" else (1, 2, 3, 7):
        found = TorchBackend(every, batch_size=batch_size).generate(problems, sampling)
        assert plain(found) == plain(expected)


def test_order_and_sharding_do_not_change_any_token(every: LoadedModel, problems: list[Problem]) -> None:
    backend = TorchBackend(every)
    expected = {(g.task_id, g.sample_index): g for g in plain(backend.generate(problems, SAMPLED))}
    requests = [(p, i) for i in (2, 0, 1) for p in reversed(problems)]
    found: list[Generation] = []
    backend.draw(requests[:5], SAMPLED, on_batch=found.extend)
    backend.draw(requests[5:], SAMPLED, on_batch=found.extend)
    assert {(g.task_id, g.sample_index) for g in found[:5]} == {(p.task_id, i) for p, i in requests[:5]}
    assert {(g.task_id, g.sample_index): g for g in plain(found)} == expected
    assert len({g.completion for g in found}) > 15


def test_the_number_of_samples_does_not_change_any_token(every: LoadedModel, problems: list[Problem]) -> None:
    few = TorchBackend(every).generate(problems, replace(SAMPLED, n_samples=1))
    many = TorchBackend(every).generate(problems, SAMPLED)
    assert plain(few) == [g for g in plain(many) if g.sample_index == 0]


def test_a_checkpoint_s_own_wishes_do_not_mix_with_the_sampling(
    every: LoadedModel, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = TorchBackend(every).generate(problems, SAMPLED)
    wishes = GenerationConfig(do_sample=True, temperature=9.0, no_repeat_ngram_size=1, forced_eos_token_id=7)
    monkeypatch.setattr(every.model, "generation_config", wishes)
    assert plain(TorchBackend(every).generate(problems, SAMPLED)) == plain(expected)
    assert every.model.generation_config is wishes


def test_one_prompt_is_processed_once_for_all_its_samples(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    backend = TorchBackend(loaded)
    read = type(backend._decoder).read

    def counting(self: Decoder, prompts: list[list[int]]) -> Prefill:
        counted.append(len(prompts))
        return read(self, prompts)

    monkeypatch.setattr(type(backend._decoder), "read", counting)
    problems = [Problem(task_id="a", prompt="def f"), Problem(task_id="b", prompt="class")]
    backend.generate(problems, replace(SAMPLED, n_samples=10))
    assert sum(counted) == 2


def test_a_stop_string_ends_only_its_own_row(every: LoadedModel, problems: list[Problem]) -> None:
    free = TorchBackend(every).generate(problems, GREEDY)
    most = max(range(len(free)), key=lambda number: len(free[number].completion))
    stop = free[most].completion[3:5]
    cut = TorchBackend(every).generate(problems, replace(GREEDY, stop=(stop,)))
    for before, after in zip(free, cut, strict=True):
        assert after.completion == before.completion.split(stop)[0]
        assert (after.stop_reason == "stop") == (stop in before.completion)
    assert cut[most].stop_reason == "stop" and {g.stop_reason for g in cut} != {"stop"}


def test_conventions_of_the_checkpoint_shape_the_prompt(loaded: LoadedModel) -> None:
    conventions = PromptConventions(prefix="class A:\n", strip_trailing_newline=True)
    told = replace(loaded.checkpoint, conventions=conventions)
    fenced = TorchBackend(LoadedModel(model=loaded.model, tokenizer=loaded.tokenizer, checkpoint=told, device="cpu"))
    asked = fenced.generate([Problem(task_id="a", prompt="x = 1\n")], GREEDY)
    plainly = TorchBackend(loaded).generate([Problem(task_id="a", prompt="class A:\nx = 1")], GREEDY)
    assert plain(asked) == plain(plainly)


def test_a_long_prompt_loses_its_left_end_and_is_counted(loaded: LoadedModel) -> None:
    backend, tail = TorchBackend(loaded), "for i in range(10):"
    ids = loaded.tokenizer("y" * 200 + tail).input_ids
    found = backend.generate([Problem(task_id="a", prompt="y" * 200 + tail)], GREEDY)
    short = loaded.tokenizer.decode(ids[-(96 - 20) :])
    assert backend.n_truncated == 1
    assert plain(found) == plain(backend.generate([Problem(task_id="a", prompt=short)], GREEDY))
    with pytest.raises(MeasurementError, match="max_new_tokens=96"):
        backend.generate([Problem(task_id="a", prompt="x")], replace(GREEDY, max_new_tokens=96))


def test_an_empty_prompt_begins_a_document(loaded: LoadedModel) -> None:
    assert TorchBackend(loaded).generate([Problem(task_id="a", prompt="")], GREEDY)[0].n_tokens >= 1


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_running_out_of_memory_halves_the_batch_and_loses_nothing(
    every: LoadedModel, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = TorchBackend(every).generate(problems, SAMPLED)
    step, generate = Slots.step, type(every.model).generate

    def greedy_for_memory(self: Slots, tokens: torch.Tensor) -> torch.Tensor:
        if len(tokens) > 4:
            raise FULL
        return step(self, tokens)

    def just_as_greedy(self: torch.nn.Module, **options: Any) -> Any:
        if len(options["input_ids"]) > 4:
            raise FULL
        return generate(self, **options)

    backend, sent = TorchBackend(every), []
    requests = [(problem, index) for problem in problems for index in range(SAMPLED.n_samples)]
    if backend.engine == "transformers":
        monkeypatch.setattr(type(every.model), "generate", just_as_greedy)
    monkeypatch.setattr(Slots, "step", greedy_for_memory)
    backend.draw(requests, SAMPLED, on_batch=sent.extend)
    assert sorted(map(repr, plain(sent))) == sorted(map(repr, plain(expected)))
    assert (backend.batch_size, backend.n_rows, backend.n_halved) == (3, 3, 3)  # 24, 12, 6, 3


def test_other_errors_of_torch_are_not_taken_for_a_lack_of_memory(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(Slots, "step", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        TorchBackend(loaded).generate([Problem(task_id="a", prompt="x")], GREEDY)


def test_a_single_row_that_does_not_fit_is_a_clear_error(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FULL

    monkeypatch.setattr(Slots, "admit", full)
    with pytest.raises(MeasurementError, match="one row of tiny"):
        TorchBackend(loaded).generate([Problem(task_id="a", prompt="x")], GREEDY)


def test_rows_are_as_many_as_the_cache_may_hold(
    every: LoadedModel, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "CPU_CACHE_BYTES", 200_000)
    made: list[Slots] = []
    build = Slots.__init__

    def noting(self: Slots, *arguments: Any, **options: Any) -> None:
        build(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(Slots, "__init__", noting)
    backend = TorchBackend(every)
    assert len(backend.generate(problems, SAMPLED)) == 24
    assert 1 < backend.n_rows <= 24
    for slots in made:
        assert backend.n_rows < 24
        assert sum(block.n_bytes for block in slots._blocks) <= 200_000


def test_progress_and_batches_are_told_of_every_completion(loaded: LoadedModel, problems: list[Problem]) -> None:
    told: list[float] = []
    sent: list[Generation] = []
    requests = [(problem, index) for problem in problems for index in range(SAMPLED.n_samples)]
    TorchBackend(loaded, batch_size=4).draw(
        requests, SAMPLED, progress=lambda done, total, text: told.append(done / total), on_batch=sent.extend
    )
    assert len(sent) == len(requests) == len(told) and told[-1] == 1.0
    assert all(g.duration_s > 0 for g in sent)


def test_what_is_drawn_is_not_kept(loaded: LoadedModel) -> None:
    backend, sampling = TorchBackend(loaded, batch_size=32), replace(SAMPLED, max_new_tokens=60, stop=("e", "a", "i"))

    def peak_of(n_samples: int) -> float:
        requests = [(Problem(task_id="a", prompt="def f"), index) for index in range(n_samples)]
        tracemalloc.start()
        try:
            backend.draw(requests, sampling, on_batch=lambda batch: None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_of(50)
    few, many = peak_of(100), peak_of(2100)
    assert (many - few) / 2000 < 400  # uniforms and text of one alone are more


def test_nothing_asked_is_nothing_drawn(every: LoadedModel) -> None:
    assert TorchBackend(every).generate([], SAMPLED) == []


def test_log_likelihood_is_that_of_the_text_alone(loaded: LoadedModel, problems: list[Problem]) -> None:
    texts = ["", "x", *(p.prompt for p in problems), "def f(x):\n    return 'é漢字🎉'\n"]
    for text, score in zip(texts, TorchBackend(loaded).log_likelihood(texts, max_tokens=20), strict=True):
        ids = torch.tensor([loaded.tokenizer(text).input_ids[:20]], dtype=torch.int64)
        if ids.shape[1] < 2:
            assert (score.n_tokens, score.n_bytes, score.log_likelihood) == (0, 0, 0.0)
            continue
        with torch.inference_mode():
            loss = loaded.model(ids, labels=ids).loss.item()
        assert score.log_likelihood == pytest.approx(-loss * (ids.shape[1] - 1), rel=1e-4)
        assert score.token_ids == tuple(ids[0, 1:].tolist()) and score.n_tokens == ids.shape[1] - 1
        letters = loaded.tokenizer.convert_ids_to_tokens(list(score.token_ids))  # one letter a byte
        assert 0 <= score.n_bytes - sum(map(len, letters)) <= 3  # a character cut by the window counts whole


def test_embeddings_are_unit_means_of_the_last_hidden_states(loaded: LoadedModel, problems: list[Problem]) -> None:
    texts = [p.prompt for p in problems]
    found = TorchBackend(loaded).embed([*texts, ""])
    for text, row in zip(texts, found, strict=False):
        ids = torch.tensor([loaded.tokenizer(text).input_ids])
        with torch.inference_mode():
            mean = loaded.model.base_model(ids).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), atol=1e-5)
    assert found.dtype == np.float32 and not found[-1].any()


def test_both_benchmark_steps_do_the_same_job(every: LoadedModel, problems: list[Problem]) -> None:
    for sampling in (GREEDY, replace(SAMPLED, n_samples=1)):
        ours, reference = torch_steps(every, problems[:1], sampling)
        state = torch.get_rng_state()
        assert 1 <= reference() <= 20 and 1 <= ours() <= 20
        assert torch.equal(state, torch.get_rng_state())
    assert torch_steps(every, problems, GREEDY)[0]() == torch_steps(every, problems, GREEDY)[1]()
    with pytest.raises(ValueError, match="without stop strings"):
        torch_steps(every, problems, replace(GREEDY, stop=("x",)))
