"""What is asked of every model: the corpus, and the prompts, problems and texts that profile and seed draw from it.

Not covered: asking (pipeline.py).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pytest_collabcode.clones.bodies import bodies_of
from pytest_collabcode.clones.index import CloneIndex
from pytest_collabcode.clones.near import NearIndex
from pytest_collabcode.clones.opening import open_any
from pytest_collabcode.corpus.consortium import Consortium
from pytest_collabcode.corpus.functions import corpus_functions, sample_functions
from pytest_collabcode.corpus.load import load_corpus
from pytest_collabcode.lines import split_lines
from pytest_collabcode.memorization.attribution import STRATA as CELLS
from pytest_collabcode.memorization.strata import COPIES, LENGTHS
from pytest_collabcode.records import Corpus, Document, Function, Problem, Sampling
from pytest_collabcode.settings import Profile
from pytest_collabcode.tasks import completion, humaneval, memorization, perplexity, retrieval

STRATA = ("natural", "planted", "heldout")


class Material:
    """Everything that is the same for all subjects of a session, made when first asked for.

    Example:
        >>> from pytest_collabcode.settings import profile
        >>> ours = Consortium(name="ours", organizations=())
        >>> material = Material(ours, profile("demo"), downloads=Path("downloads"), seed=1)
        >>> len(material.humaneval_problems), material.humaneval_sampling.temperature
        (164, 0.0)
    """

    def __init__(
        self,
        consortium: Consortium,
        profile: Profile,
        *,
        downloads: Path,
        seed: int,
        normalization: str = "verbatim",
    ) -> None:
        self.consortium = consortium
        self.profile = profile
        self.seed = seed  # of sampling; what is asked is drawn by the consortium's own
        self._downloads = downloads
        self._normalization = normalization

    @cached_property
    def corpus(self) -> Corpus:
        """The consortium's code, curated and split."""
        return load_corpus(self.consortium, downloads=self._downloads)

    @cached_property
    def clone_index(self) -> CloneIndex:
        """Every training document of every organization, plants included, or the index that stands for it.

        Raises:
            ConfigurationError: an index is missing, of another shape, or its key is.
            StoreError: an index is damaged.
        """
        specs = self.consortium.indexes
        indexed = {spec.name for spec in specs}
        own = [d for o in self.corpus.organizations if o.name not in indexed for d in o.split("training")]
        opened = [open_any(spec.path, key_file=spec.key_file).chosen(spec.name) for spec in specs]
        return CloneIndex.joined([CloneIndex.build(own, normalization=self._normalization), *opened])

    @property
    def source_organizations(self) -> tuple[str, ...]:
        """Whose code may come back: the organizations that train, and those of which only an index is here."""
        return tuple(dict.fromkeys([*self.corpus.names, *(spec.name for spec in self.consortium.indexes)]))

    @cached_property
    def near_index(self) -> NearIndex:
        """The body of every function in those documents."""
        training = (d for o in self.corpus.organizations for d in o.split("training"))
        return NearIndex.build(body for document in training for body in bodies_of(document))

    def functions(self, split: str, n: int, *, min_body_lines: int = 0) -> list[Function]:
        """Return up to n documented functions of each organization, drawn by the consortium's seed.

        Functions whose prompt is longer than the profile asks for are left out before the draw.
        """
        seed = self.consortium.seed
        return [
            function
            for name in self.corpus.names
            for function in sample_functions(self._short(split, name, min_body_lines), n, seed)
        ]

    def _short(self, split: str, organization: str, min_body_lines: int) -> list[Function]:
        limit = self.profile.max_prompt_characters
        functions = corpus_functions(self.corpus, split, organization, min_body_lines)
        return [function for function in functions if len(function.prompt) <= limit]

    def prompts(self, stratum: str) -> list[Problem]:
        """Return the memorization prompts of one of STRATA; eligible bodies have at least 6 significant lines."""
        profile, min_lines = self.profile, self.clone_index.min_lines
        if stratum == "planted":
            return memorization.problems([], plants=self.corpus.plants, min_lines=min_lines)
        training = stratum == "natural"
        n = profile.prompts_per_organization if training else profile.heldout_prompts_per_organization
        functions = self.functions("training" if training else "heldout", n, min_body_lines=min_lines)
        return memorization.problems(functions, min_lines=min_lines)

    def extraction_prompts(self, stratum: str) -> list[Problem]:
        """Return the memorization prompts whose bodies are scored: the first ones of each organization.

        A body begins with the blank lines that its file has before it; planted files have none.
        """
        n, prompts = self.profile.extraction_prompts_per_organization, self.prompts(stratum)
        chosen = [p for name in self.corpus.names for p in [q for q in prompts if q.organization == name][:n]]
        return chosen if stratum == "planted" else [self._as_it_stands(problem) for problem in chosen]

    def _as_it_stands(self, problem: Problem) -> Problem:
        document = self._documents[problem.organization, problem.path]
        first = int(problem.task_id.rpartition(":")[2]) - document.header_lines
        after = split_lines(document.text)[first + problem.prompt.count("\n") :]
        n_blank = next((n for n, line in enumerate(after) if line.strip()), 0)
        return replace(problem, canonical_solution="\n" * n_blank + problem.canonical_solution)

    @cached_property
    def _documents(self) -> dict[tuple[str, str], Document]:
        return {(d.organization, d.path): d for o in self.corpus.organizations for d in o.documents}

    def control_prompts(self, organization: str) -> list[Problem]:
        """Return the planted prompts of an organization whose code was planted nowhere else."""
        plants = [p for p in self.corpus.plants if p.organizations == (organization,)]
        if not plants:
            return []
        return memorization.problems([], plants=plants, min_lines=self.clone_index.min_lines)

    @cached_property
    def heldout_documents(self) -> list[Document]:
        """Held-out documents whose text is scored."""
        n = self.profile.perplexity_documents_per_organization
        return perplexity.heldout_documents(self.corpus, per_organization=n, seed=self.consortium.seed)

    @cached_property
    def retrieval_pairs(self) -> list[retrieval.Pair]:
        """The pool of docstrings and code, held-out functions of all organizations."""
        functions = corpus_functions(self.corpus, "heldout")
        return retrieval.pool(functions, size=self.profile.retrieval_pool, seed=self.consortium.seed)

    @cached_property
    def completion_functions(self) -> list[Function]:
        """Held-out functions that the completion task asks for."""
        return self.functions("heldout", self.profile.completion_functions_per_organization, min_body_lines=1)

    @cached_property
    def humaneval_problems(self) -> list[Problem]:
        """The first problems of HumanEval, as many as the profile says."""
        return humaneval.problems()[: self.profile.humaneval_problems]

    # --- how it is asked

    @property
    def memorization_sampling(self) -> Sampling:
        """The paper's sampling at the profile's size."""
        profile = self.profile
        return memorization.sampling(
            max_new_tokens=profile.max_new_tokens, n_samples=profile.n_samples, seed=self.seed
        )

    @property
    def completion_sampling(self) -> Sampling:
        """Greedy, at the profile's length."""
        return completion.sampling(max_new_tokens=self.profile.completion_max_new_tokens, seed=self.seed)

    @property
    def humaneval_sampling(self) -> Sampling:
        """Greedy, one sample, with HumanEval's stop strings."""
        return Sampling(max_new_tokens=self.profile.humaneval_max_new_tokens, stop=humaneval.STOPS)

    def prompt_counts(self, metric: str, stratum: str = "natural") -> dict[str, int]:
        """Return how many prompts of a stratum will be asked for a metric, per organization."""
        scored = metric.startswith("discoverable")
        counts = dict.fromkeys(self.corpus.names, 0)
        if stratum == "planted" and not self.corpus.plants:
            return counts
        for problem in self.extraction_prompts(stratum) if scored else self.prompts(stratum):
            counts[problem.organization] += 1
        return counts

    def strata(self, metric: str) -> tuple[str, ...]:
        """Return the strata that measurements of a memorization metric stand in, "" where there are pooled ones."""
        if metric == "canary_exposure":
            return ("", *sorted({f"copies={canary.copies}" for canary in self.corpus.canaries}))
        finer = {
            "memorization_ratio": [f"{stratum} {name}" for stratum in STRATA[:2] for name, _ in LENGTHS],
            "distinct_clones": [f"{STRATA[0]} {name}" for name, _ in COPIES],
        }
        return (*(stratum for stratum, _, _ in CELLS), *finer.get(metric, ()))
