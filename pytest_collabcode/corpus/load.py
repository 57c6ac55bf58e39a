"""From a consortium to its corpus: sources, curation, de-duplication, split, plants, canaries, digest.

The result depends on the bytes of the sources and the consortium's seed alone, not on the order of directories.
Not covered: downloading wheels (fetch.py), packing into training sequences (training).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from pytest_collabcode.corpus.canaries import plant_canaries
from pytest_collabcode.corpus.consortium import Consortium, OrganizationSpec
from pytest_collabcode.corpus.curate import curate
from pytest_collabcode.corpus.deduplicate import Duplicates, deduplicate
from pytest_collabcode.corpus.plants import plant, read_plants
from pytest_collabcode.corpus.reading import SourceFile
from pytest_collabcode.corpus.sources import default_prefix, read_source
from pytest_collabcode.corpus.split import split_documents
from pytest_collabcode.digests import digest_of
from pytest_collabcode.errors import CorpusError
from pytest_collabcode.records import Canary, Corpus, Organization, Plant

Skipped = list[tuple[str, str]]


def load_corpus(consortium: Consortium, *, downloads: Path) -> Corpus:
    """Load, curate and split the code of a consortium.

    Args:
        consortium: as read from its file.
        downloads: folder that wheels were fetched to.
    Returns:
        The corpus; `skipped` names each file passed over with the reason, `rates` holds per organization the exact
        and near duplicate ratios, over the curated documents before removal.
    Raises:
        CorpusError: a source is missing, altered or unusable, or fewer than two documents remain.
        ConfigurationError: the plants file is wrong.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pytest_collabcode.corpus.consortium import Source
        >>> with TemporaryDirectory() as folder:
        ...     for name in "ab":
        ...         text = f"def {name}():\\n" + "".join(f"    {name}{i} = {i}\\n" for i in range(9))
        ...         _ = (Path(folder) / f"{name}.py").write_text(text)
        ...     acme = OrganizationSpec(name="acme", sources=(Source(kind="dir", target=folder),))
        ...     corpus = load_corpus(Consortium(name="ours", organizations=(acme,)), downloads=Path(folder))
        >>> sorted(document.split for document in corpus.organization("acme").documents), corpus.rates
        (['heldout', 'training'], (('acme', 0.0, 0.0),))
    """
    skipped: Skipped = []
    organizations, rates = [], []
    for spec in consortium.organizations:
        files = _read(spec, downloads, skipped)
        remove = consortium.remove_near_duplicates
        found = _deduplicated(spec, files, consortium.seed, skipped, remove_near_duplicates=remove)
        documents = split_documents(found.kept, seed=consortium.seed, heldout_ratio=consortium.heldout_ratio)
        organizations.append(Organization(name=spec.name, documents=documents))
        rates.append((spec.name, found.exact_ratio, found.near_ratio))
    planted, plants = tuple(organizations), tuple[Plant, ...]()
    if consortium.plants:
        planted, plants = plant(planted, read_plants(consortium.plants)[1])
    canaries: tuple[Canary, ...] = ()
    if consortium.canaries:
        planted, canaries = plant_canaries(planted, consortium.canaries)
    corpus = Corpus(
        name=consortium.name,
        organizations=planted,
        plants=plants,
        canaries=canaries,
        rates=tuple(rates),
        skipped=tuple(skipped),
    )
    return replace(corpus, digest=corpus_digest(corpus))


def corpus_digest(corpus: Corpus) -> str:
    """Return the digest of a corpus: name, and each document's, plant's and canary's content, in their order.

    Example:
        >>> corpus_digest(Corpus(name="a", organizations=())) != corpus_digest(Corpus(name="b", organizations=()))
        True
    """
    documents = [
        (d.organization, d.path, d.split, d.licence, d.text, d.planted)
        for organization in corpus.organizations
        for d in organization.documents
    ]
    canaries = (corpus.canaries,) if corpus.canaries else ()  # without any, as before there were any
    return digest_of("corpus", corpus.name, documents, corpus.plants, *canaries)


def _read(spec: OrganizationSpec, downloads: Path, skipped: Skipped) -> list[SourceFile]:
    """Read all sources of one organization; of files with the same path the first is kept."""
    files: dict[str, SourceFile] = {}
    prefixes: Counter[str] = Counter()
    for source in spec.sources:
        prefix = default_prefix(source)
        prefixes[prefix] += 1
        if prefixes[prefix] > 1:  # two folders named "src" stay apart
            prefix += f"~{prefixes[prefix]}"
        reading = read_source(source, downloads=downloads, prefix=prefix)
        skipped += [(f"{spec.name}:{what}", why) for what, why in sorted(reading.skipped)]
        for file in reading.files:
            if files.setdefault(file.path, file) is not file:
                skipped.append((f"{spec.name}:{file.path}", "path occurs twice"))
    return [files[path] for path in sorted(files)]


def _deduplicated(
    spec: OrganizationSpec, files: list[SourceFile], seed: int, skipped: Skipped, *, remove_near_duplicates: bool
) -> Duplicates:
    documents, dropped = curate(files, spec.name, seed=seed)
    skipped += [(f"{spec.name}:{path}", why) for path, why in dropped]
    if not documents:
        reasons = ", ".join(f"{n} {why}" for why, n in Counter(why for _, why in dropped).most_common(3))
        raise CorpusError(f"organization={spec.name!r}: curation left none of {len(files)} files ({reasons})")
    found = deduplicate(documents, remove_near_duplicates=remove_near_duplicates)
    skipped += [(f"{spec.name}:{copy.path}", f"exact copy of {original.path}") for copy, original in found.exact]
    if remove_near_duplicates:
        skipped += [(f"{spec.name}:{copy.path}", f"near copy of {original.path}") for copy, original in found.near]
    if len(found.kept) < 2:
        raise CorpusError(
            f"organization={spec.name!r}: {len(found.kept)} document is left of {len(files)} files;"
            " at least 2 are needed, one to train on and one held out"
        )
    return found
