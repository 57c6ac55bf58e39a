"""The pytest plugin: options and fixtures; every body short, delegating to Gatekeeper and Session.

Imported at the start of every pytest run on the machine, so neither torch, transformers, flwr, datasketch nor
numpy is imported here, and nothing is printed or written unless the plugin is asked for something.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_collabcode import hookspecs
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.gatekeeper import GATEKEEPER, Gatekeeper
from pytest_collabcode.settings import BACKENDS, PROFILES, make_settings

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from pytest_collabcode.records import Backend, Corpus, Generation, Measurement, Problem, Sampling
    from pytest_collabcode.session import Session

_SINGLE = {
    "base": ("PATH", "pretrained checkpoint that regimes start from (default: from scratch)"),
    "thresholds": ("FILE", "thresholds to judge by (default: the demo's suites/thresholds.toml)"),
    "consortium": ("FILE", "organizations and their corpora (default: the demo's fixtures/consortium.toml)"),
    "profile": ("NAME", f"how much is measured: {', '.join(p.name for p in PROFILES)} (default: demo)"),
    "recipe": ("NAME", "shape and hyperparameters of trained models (default: llama-demo)"),
    "store": ("DIR", "where results are kept (default: $COLLABCODE_STORE or .collabcode)"),
    "seed": ("N", "of sampling and training (default: 1)"),
    "device": ("NAME", "cpu, cuda or cuda:N (default: cpu)"),
    "backend": ("NAME", f"what runs checkpoints: {', '.join(BACKENDS)} (default: torch)"),
    "batch_size": ("N", "completions drawn at once, or requests to a server (default: as many as fit; 16)"),
    "baseline": ("FILE", "accepted measurements to compare with, problem by problem"),
    "normalization": (
        "NAME",
        "of lines in clones: verbatim, code-only, simian-py, simian-text, type-2 (default: verbatim)",
    ),
    "allow": ("FILE", "fragments the organizations agreed to ignore, each with a reason and an expiry date"),
    "workers": (
        "N",
        "cores that prepare results before the tests (default: all that may be used; on a GPU 1)",
    ),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options; `--model` is an alias that yields to another plugin's."""
    group = parser.getgroup("collabcode", "release gate for collaboratively trained code models")
    model = {
        "dest": "collabcode_model",
        "action": "append",
        "default": [],
        "metavar": "[NAME=]PATH",
        "help": "checkpoint to judge, or the URL of a server: http://127.0.0.1:8000/v1#model (repeatable)",
    }
    try:
        group.addoption("--collabcode-model", "--model", **model)
    except (ValueError, argparse.ArgumentError):  # another plugin owns --model
        group.addoption("--collabcode-model", **model)
    group.addoption(
        "--collabcode-regime",
        action="append",
        default=[],
        metavar="NAME[,NAME]",
        help="train and judge: local:ORG, centralized, fedavg, fedyogi, ..., incremental:A>B>C (repeatable)",
    )
    group.addoption(
        "--collabcode-adapter",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="PEFT adapter (LoRA) to merge into the checkpoints of --model, or into one of them (repeatable)",
    )
    for name, (metavar, text) in _SINGLE.items():
        group.addoption(f"--collabcode-{name.replace('_', '-')}", metavar=metavar, help=text)
    group.addoption(
        "--collabcode-report",
        action="append",
        default=[],
        metavar="FORMAT:PATH",
        help="write json:PATH, markdown:PATH or sarif:PATH",
    )
    group.addoption(
        "--collabcode-partial", action="store_true", help="let a run narrowed by -k or -m exit with 0 if it passed"
    )
    group.addoption(
        "--collabcode-unsafe-execution",
        action="store_true",
        help="run generated programs even where nothing isolates them; the verdicts say so",
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the hooks of hookspecs.py."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Parse the options at the border; a wrong one ends the run with exit 4."""
    config.addinivalue_line(
        "markers",
        "measures(*metrics, of='any'): the metrics a suite test measures, of 'checkpoint', 'regime' or 'any'",
    )
    option = config.option
    try:
        settings = make_settings(
            directory=config.invocation_params.dir,
            models=option.collabcode_model,
            regimes=option.collabcode_regime,
            options={name: getattr(option, f"collabcode_{name}") for name in _SINGLE},
            adapters=option.collabcode_adapter,
            reports=option.collabcode_report,
            accept_partial=option.collabcode_partial,
            unsafe_execution=option.collabcode_unsafe_execution,
        )
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from None
    gatekeeper = Gatekeeper(config, settings)
    config.stash[GATEKEEPER] = gatekeeper
    config.pluginmanager.register(gatekeeper, "collabcode-gatekeeper")


def _session(request: pytest.FixtureRequest) -> Session:
    return request.config.stash[GATEKEEPER].session


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> str:
    """Name of the model under test; tests that ask for it, or for `model`, run once per subject."""
    return str(request.param)


@pytest.fixture(scope="session")
def organization(request: pytest.FixtureRequest) -> str:
    """Name of an organization of the consortium; tests that ask for it run once per organization."""
    return str(request.param)


@pytest.fixture(scope="session")
def consortium(request: pytest.FixtureRequest) -> Corpus:
    """The organizations and their code, curated and split."""
    return _session(request).pipeline.material.corpus


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest, subject: str) -> Backend:
    """The subject in memory: generate, log_likelihood, embed."""
    return _session(request).backend(subject)


@pytest.fixture(scope="session")
def local_model(request: pytest.FixtureRequest) -> Callable[[str], Backend]:
    """`local_model("meta")`: a model trained on that organization's code alone."""
    return lambda organization: _session(request).trained(f"local:{organization}")


@pytest.fixture(scope="session")
def centralized_model(request: pytest.FixtureRequest) -> Backend:
    """A model trained on all organizations' pooled code."""
    return _session(request).trained("centralized")


@pytest.fixture(scope="session")
def federated_model(request: pytest.FixtureRequest) -> Callable[[str], Backend]:
    """`federated_model("fedyogi")`: a model trained without pooling code, by that Flower strategy."""
    return lambda strategy: _session(request).trained(strategy)


@pytest.fixture(scope="session")
def incremental_model(request: pytest.FixtureRequest) -> Callable[[str], Backend]:
    """`incremental_model("meta>microsoft>google")`: a model trained by one organization after the other."""
    return lambda order: _session(request).trained(f"incremental:{order}")


@pytest.fixture
def generations(
    request: pytest.FixtureRequest, subject: str
) -> Callable[[Sequence[Problem], Sampling], Sequence[Generation]]:
    """`generations(problems, sampling)`: the subject's completions, stored and resumed."""
    return lambda problems, sampling: _session(request).generations(subject, problems, sampling)


@pytest.fixture
def memorization(request: pytest.FixtureRequest, subject: str) -> tuple[Measurement, ...]:
    """Every memorization measurement of the subject: the matrix, crossings, controls and the paper's counts."""
    return _session(request).measures.leaks.everything(subject)


@pytest.fixture
def extraction(request: pytest.FixtureRequest, subject: str) -> Callable[..., tuple[Measurement, ...]]:
    """`extraction(n=1000, p=0.5)`: functions that come back in one of n samples with probability p or more."""
    return lambda n=1000, p=0.5: _session(request).measures.leaks.discoverable(subject, n=n, p=p)


@pytest.fixture
def near_verbatim(request: pytest.FixtureRequest, subject: str) -> tuple[Measurement, ...]:
    """Prompts whose completions come close to the true body, by BLEU and by edit similarity."""
    return _session(request).measures.leaks.near_verbatim(subject)


@pytest.fixture
def membership(request: pytest.FixtureRequest, subject: str) -> tuple[Measurement, ...]:
    """How well Min-K%++ tells training functions from held-out ones: pooled and per organization."""
    return _session(request).measures.leaks.membership(subject)


@pytest.fixture
def canaries(request: pytest.FixtureRequest, subject: str) -> tuple[Measurement, ...]:
    """Exposure of the declared canaries in bits: pooled, by number of copies, per organization; none without any."""
    return _session(request).measures.leaks.canaries(subject)


@pytest.fixture
def perplexity(request: pytest.FixtureRequest, subject: str) -> tuple[Measurement, ...]:
    """Held-out perplexity, bits per byte and gain over a unigram model, per organization and pooled."""
    return _session(request).measures.perplexity(subject)


@pytest.fixture
def pass_at_k(request: pytest.FixtureRequest, subject: str) -> Callable[[int], Measurement]:
    """`pass_at_k(1)`: HumanEval, generated programs run in kernel isolation."""
    return lambda k: _session(request).measures.pass_at_k(subject, k)


@pytest.fixture
def completion(request: pytest.FixtureRequest, subject: str) -> tuple[Measurement, ...]:
    """BLEU, exact match and edit similarity on held-out functions."""
    return _session(request).measures.completion(subject)


@pytest.fixture
def retrieval(request: pytest.FixtureRequest, subject: str) -> tuple[Measurement, ...]:
    """MRR of docstring to code over a fixed pool, with BM25 on the same pool as control."""
    return _session(request).measures.retrieval(subject)


@pytest.fixture
def throughput(
    request: pytest.FixtureRequest, subject: str, benchmark: BenchmarkFixture
) -> Callable[[str], tuple[Measurement, ...]]:
    """`throughput("generation")` or `throughput("training")`: timed through pytest-benchmark."""
    return lambda what: _session(request).throughput(subject, what, benchmark)


@pytest.fixture
def perplexity_relative(request: pytest.FixtureRequest, subject: str) -> tuple[Measurement, ...]:
    """The subject's held-out perplexity over the centralized regime's, paired by document."""
    return _session(request).measures.perplexity_relative(subject)


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`gate(*measurements)`: judge them by every threshold that applies; the only road to a green run."""
    __tracebackhide__ = True
    return request.config.stash[GATEKEEPER].gate_of(request.node)
