"""Which back end answers, what its answers are kept under, and what a run says of it."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.generation.running import Run
from pytest_collabcode.models.architectures import build
from pytest_collabcode.models.tokenizer import train_tokenizer
from pytest_collabcode.opening import Opening
from pytest_collabcode.pipeline import Pipeline
from pytest_collabcode.records import Checkpoint, Problem, Sampling
from pytest_collabcode.settings import make_settings
from pytest_collabcode.training.recipes import recipe
from pytest_collabcode.workbench import open_workbench

FAR = Checkpoint(
    name="far", path=Path(), weights_digest="w", tokenizer_digest="", n_parameters=0, url="https://gpu/v1#m"
)
VERSIONS = f"torch {torch.__version__} transformers {version('transformers')} tokenizers {version('tokenizers')}"
SIGNED = (("torch", torch.__version__), ("transformers", version("transformers")))


@pytest.fixture
def alone():
    """Back ends by options, without a checkpoint on the disk."""
    return lambda **options: Opening(make_settings(directory=Path(), options=options), lambda checkpoint: None)


@pytest.fixture
def tiny(tmp_path):
    """Two folders of checkpoints: one that our decoders run, one whose activation only transformers knows."""
    for name, changes in {"known": {}, "strange": {"hidden_act": "relu"}}.items():
        model = build(recipe("llama-smoke"), 1)
        model.config.update(changes)
        model.save_pretrained(tmp_path / name)
        train_tokenizer(["def f(x):\n    return x\n"] * 3, vocabulary_size=300).save_pretrained(tmp_path / name)
    return tmp_path


@pytest.fixture
def pipeline_of(tiny, tiny_consortium):
    def pipeline_of(name, **options):
        given = {"store": str(tiny / "store"), "consortium": str(tiny_consortium), **options}
        settings = make_settings(directory=tiny, models=[str(tiny / name)], options=given)
        return Pipeline(open_workbench(settings))

    return pipeline_of


@pytest.mark.parametrize(
    ("name", "options", "place", "signature"),
    [
        ("known", {}, "cpu", ()),
        ("known", {"backend": "transformers"}, "transformers", (("backend", "transformers"),)),
        ("strange", {}, "cpu", (("backend", "transformers"),)),  # the default falls back to it, and says so
    ],
)
def test_signatures_say_what_ran_when_it_was_not_a_decoder_of_ours(pipeline_of, name, options, place, signature):
    pipeline = pipeline_of(name, **options)
    checkpoint = pipeline.checkpoint(name)
    assert pipeline.opening.place("task", checkpoint) == f"task {place} {VERSIONS}"
    assert pipeline.opening.signature(checkpoint) == (*SIGNED, *signature)
    ran = pipeline.backend(checkpoint).engine
    assert (ran == "transformers") == bool(signature)


def test_the_transformers_back_end_writes_the_same_text_and_keeps_it_apart(pipeline_of, tiny):
    problems, sampling = [Problem(task_id="t/0", prompt="def f(x):")], Sampling(max_new_tokens=8)
    texts, journals = [], []
    for options in ({}, {"backend": "transformers"}):
        pipeline = pipeline_of("known", **options)
        [drawn] = pipeline.generations(pipeline.checkpoint("known"), "own", problems, sampling)
        texts.append(drawn.completion)
        journals.append({path.name for path in (tiny / "store" / "generations").iterdir()})
    assert texts[0] == texts[1] and len(journals[1]) == 2


def test_a_server_and_an_adapter_are_named(tmp_path):
    opening = Opening(make_settings(directory=Path()), lambda checkpoint: None)
    assert opening.place("task", FAR) == opening.place("task", FAR, scores=True) == "task endpoint"
    assert opening.signature(FAR) == (("backend", "endpoint"), ("weights", "unverified"))
    adapted = replace(FAR, adapter=Path("/x/lora"))
    assert opening.signature(adapted)[-1] == ("adapter", "lora")


def test_vllm_on_one_of_several_gpus_is_told_how_to_be_let_see_it(monkeypatch):
    monkeypatch.setattr("pytest_collabcode.opening.require_vllm", lambda: None)
    settings = make_settings(directory=Path(), options={"backend": "vllm", "device": "cuda:1"})
    with pytest.raises(
        ConfigurationError, match=r"cuda:1': vLLM .*CUDA_VISIBLE_DEVICES=1 and --collabcode-device=cuda$"
    ):
        Opening(settings, lambda checkpoint: None).check()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_numbers_of_a_gpu_say_in_which_type_they_were_computed_and_are_stored_apart(dtype, monkeypatch):
    monkeypatch.setattr("pytest_collabcode.opening.native_dtype", lambda device: dtype)
    near = replace(FAR, url="")
    opening = Opening(make_settings(directory=Path(), options={"device": "cuda:1"}), lambda checkpoint: None)
    opening._fits[near] = True
    name = str(dtype).removeprefix("torch.")
    assert opening.place("task", near) == f"task cuda {name} {VERSIONS}"
    assert opening.signature(near) == (*SIGNED, ("dtype", name))
    assert opening.signature(FAR) == (("backend", "endpoint"), ("weights", "unverified"))


def test_vllm_draws_and_the_default_engine_scores_and_signatures_tell_them_apart(alone, monkeypatch):
    monkeypatch.setattr("pytest_collabcode.opening.metadata.version", {"vllm": "0.20.2"}.__getitem__)
    opening, near = alone(backend="vllm"), replace(FAR, url="")
    opening._fits[near] = True
    assert opening.place("task", near) == f"task vllm {VERSIONS} vllm 0.20.2"
    assert opening.signature(near) == (*SIGNED, ("vllm", "0.20.2"), ("backend", "vllm"))
    assert opening.place("task", near, scores=True) == f"task cpu {VERSIONS}"
    assert opening.signature(near, scores=True) == SIGNED


class House:
    """A back end of somebody's own."""


@pytest.mark.parametrize(
    ("backend", "scores", "libraries"),
    [
        ("torch", False, "torch transformers tokenizers"),
        ("torch", True, "torch transformers tokenizers"),
        ("transformers", False, "torch transformers tokenizers"),
        ("vllm", False, "torch transformers tokenizers vllm"),
        ("vllm", True, "torch transformers tokenizers"),  # the default engine scores
        ("endpoint", False, ""),  # a server keeps its versions to itself
        ("house", True, ""),
    ],
)
def test_what_a_signature_says_of_libraries_is_part_of_where_the_number_is_kept(
    backend, scores, libraries, monkeypatch
):
    installed = {"vllm": "0.20.2"}
    monkeypatch.setattr("pytest_collabcode.opening.metadata.version", installed.__getitem__)
    checkpoint = FAR if backend == "endpoint" else replace(FAR, url="")
    options = {} if backend in ("endpoint", "house") else {"backend": backend}
    opening = Opening(
        make_settings(directory=Path(), options=options), lambda _: House() if backend == "house" else None
    )
    opening._fits[checkpoint] = True

    def told():
        return opening.place("task", checkpoint, scores=scores), opening.signature(checkpoint, scores=scores)

    def upgrade(patch, library):
        if library == "vllm":
            patch.setitem(installed, "vllm", "99.0.0")
        else:
            patch.setattr(f"{library}.__version__", "99.0.0")

    place, signature = told()
    for library in ("torch", "transformers", "tokenizers", "vllm"):
        with monkeypatch.context() as patch:
            upgrade(patch, library)
            assert (told()[0] != place) == (library in libraries.split())
            assert (told()[1] != signature) == (library in libraries.split() and library != "tokenizers")


@pytest.mark.parametrize("library", [torch, transformers, tokenizers])
def test_what_another_version_computed_is_computed_again_and_not_signed_as_its_own(pipeline_of, library, monkeypatch):
    problems, sampling = [Problem(task_id="t/0", prompt="def f(x):")], Sampling(max_new_tokens=2)

    def compute():
        asked = []
        pipeline = pipeline_of("known")
        checkpoint = pipeline.checkpoint("known")
        opened = pipeline.opening._open
        monkeypatch.setattr(pipeline.opening, "_open", lambda *which: asked.append(which) or opened(*which))
        pipeline.generations(checkpoint, "own", problems, sampling)
        pipeline.embeddings(checkpoint, ["x = 1\n"])
        pipeline.token_scores(checkpoint, [("x =", " 1\n")], sampling)
        pipeline.secret_scores(checkpoint, ["x = 1\n"], max_tokens=8)
        return len(asked)

    assert (compute(), compute()) == (4, 0)
    monkeypatch.setattr(library, "__version__", "99.0.0")
    assert (compute(), compute()) == (4, 0)


def test_a_batch_that_did_not_fit_is_halved_and_the_run_says_to_what(pipeline_of, monkeypatch):
    run = Run.run

    def with_little_memory(self, rows, batch_size):
        self.n_rows = batch_size or len(rows)
        if self.n_rows > 2:
            raise torch.OutOfMemoryError("out of memory")
        run(self, rows, batch_size)

    monkeypatch.setattr(Run, "run", with_little_memory)
    pipeline = pipeline_of("known")
    problems = [Problem(task_id=f"t/{number}", prompt="def f(x):") for number in range(8)]
    drawn = pipeline.generations(pipeline.checkpoint("known"), "own", problems, Sampling(max_new_tokens=2))
    assert len(drawn) == 8
    said = "known: memory ran out, so at most 2 completions were drawn at once"
    assert pipeline.notices == [said] and ("notice 1", said) in pipeline.environment()


def test_the_batch_size_that_was_asked_for_is_used(pipeline_of):
    pipeline = pipeline_of("known", batch_size="3")
    checkpoint = pipeline.checkpoint("known")
    problems = [Problem(task_id=f"t/{number}", prompt="def f(x):") for number in range(8)]
    pipeline.generations(checkpoint, "own", problems, Sampling(max_new_tokens=2))
    assert pipeline.backend(checkpoint).n_rows == 3 and pipeline.notices == []


def test_a_device_that_is_not_there_is_refused():
    opening = Opening(make_settings(directory=Path(), options={"device": "cuda:99"}), lambda checkpoint: None)
    with pytest.raises(ConfigurationError, match="--collabcode-device='cuda:99' cannot be used here"):
        opening.check()
