"""Code and its owners: documents, organizations, corpora, functions, problems.

Not covered: reading any of it (corpus/).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file of an organization's code."""

    path: str  # relative to the source, with "/", prefixed by the source's name: "etils-1.14.0/etils/enp/x.py"
    text: str = field(repr=False)  # decoded, "\n" newlines, no BOM, leading licence header removed
    organization: str
    split: str = "training"  # "training" or "heldout"
    licence: str = ""  # SPDX identifier
    header: str = field(default="", repr=False)  # the leading licence header that was separated from the text
    header_lines: int = 0  # lines the header took: line i of text is line i + header_lines of the file
    planted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A declared training function that is repeated on purpose: the positive control of the instrument."""

    function: Function
    organizations: tuple[str, ...]  # planted in these; two or more make a cross-organization clone
    copies: int  # times per pass over the data, in each of those organizations


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A declared function with a random secret, planted into one organization's training code to measure exposure."""

    organization: str
    name: str  # of the function; drawn apart from the secret, so it may be shown
    prefix: str  # its text up to the secret
    secret: str = field(repr=False)  # decimal digits: one of 10 ** len(secret), all equally likely
    suffix: str  # its text after the secret
    copies: int  # times per pass over the data

    @property
    def text(self) -> str:
        """The whole function.

        Example:
            >>> Canary(organization="acme", name="f", prefix="f = '", secret="07", suffix="'\\n", copies=1).text
            "f = '07'\\n"
        """
        return self.prefix + self.secret + self.suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """One owner of code."""

    name: str
    documents: tuple[Document, ...]

    def split(self, split: str) -> tuple[Document, ...]:
        """Return the documents of one split, "training" or "heldout".

        Example:
            >>> a = Document(path="a.py", text="", organization="acme", split="heldout")
            >>> b = Document(path="b.py", text="", organization="acme")
            >>> [document.path for document in Organization(name="acme", documents=(a, b)).split("heldout")]
            ['a.py']
        """
        return tuple(d for d in self.documents if d.split == split)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The code of all organizations of one consortium, curated and split."""

    name: str  # of the consortium; thresholds name the consortium they were made for
    organizations: tuple[Organization, ...]
    plants: tuple[Plant, ...] = ()
    canaries: tuple[Canary, ...] = ()
    digest: str = ""  # over every document's organization, path, split, text, every plant and canary
    rates: tuple[tuple[str, float, float], ...] = ()  # organization, exact and near duplicate ratio before removal
    skipped: tuple[tuple[str, str], ...] = ()  # (what, why) for everything that was passed over

    def organization(self, name: str) -> Organization:
        """Return the organization of that name; KeyError names the others.

        Example:
            >>> acme = Organization(name="acme", documents=())
            >>> Corpus(name="ours", organizations=(acme,)).organization("acme") is acme
            True
        """
        for organization in self.organizations:
            if organization.name == name:
                return organization
        raise KeyError(f"organization={name!r}; the corpus has {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the organizations, in the consortium file's order."""
        return tuple(o.name for o in self.organizations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A documented function cut out of a document: the raw material of prompts."""

    organization: str
    path: str
    name: str  # qualified: "Class.method"
    split: str
    first_line: int  # 1-based line of `def` in the file
    last_line: int
    prompt: str = field(repr=False)  # from `def` to the end of the docstring, dedented, no trailing newline
    docstring: str = field(repr=False)  # its text, cleaned
    body: str = field(repr=False)  # what follows the docstring, with the prompt's indentation, no leading newline
    significant_lines: int  # of the body


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something a model is asked to continue."""

    task_id: str  # unique within a task: "HumanEval/0", "meta:submitit-1.5.4/submitit/core.py:120"
    prompt: str = field(repr=False)
    canonical_solution: str = field(default="", repr=False)
    test: str = field(default="", repr=False)
    entry_point: str = ""
    organization: str = ""
    path: str = ""  # where the prompt stands, for prompts out of a corpus
    planted: bool = False
