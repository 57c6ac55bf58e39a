"""Planted functions: declared training functions that are repeated on purpose, the positive control.

A plants file names functions and hashes, never code; the code is looked up in the corpus and must match.
Not covered: choosing them (choose_plants.py); repeating the documents while packing (training).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_collabcode.corpus.functions import functions_of
from pytest_collabcode.corpus.tables import Table, read_toml
from pytest_collabcode.errors import ConfigurationError, CorpusError, nearest
from pytest_collabcode.records import Document, Function, Organization, Plant


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantDeclaration:
    """One plant as declared: which function, where it is planted, how often, and the hash of its code."""

    organization: str  # that owns the function
    path: str
    name: str  # qualified
    planted_in: tuple[str, ...]  # the owner first
    copies: int
    sha256: str  # of prompt, newline, body


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How the declarations were chosen, so that anyone can choose them again."""

    per_organization: int
    shared: int  # of those, planted in a second organization too
    copies: int
    seed: int


def function_sha256(function: Function) -> str:
    """Return the SHA-256 of a function's prompt and body.

    Example:
        >>> function_sha256(Function(organization="", path="", name="", split="", first_line=1, last_line=1,
        ...     prompt="p", docstring="", body="b", significant_lines=1))[:12]
        '95089694cf6f'
    """
    return hashlib.sha256(planted_text(function).encode()).hexdigest()


def planted_text(function: Function) -> str:
    """Return the text of a plant's document: prompt, body, and a newline after each.

    Example:
        >>> planted_text(Function(organization="", path="", name="", split="", first_line=1, last_line=1,
        ...     prompt="p", docstring="", body="b", significant_lines=1))
        'p\\nb\\n'
    """
    return f"{function.prompt}\n{function.body}\n"


def read_plants(path: Path) -> tuple[Selection, tuple[PlantDeclaration, ...]]:
    """Read a plants file.

    Returns:
        (how they were chosen, the declarations in the file's order).
    Raises:
        ConfigurationError: it is missing or not TOML, or a key is unknown, missing, wrong or declared twice.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "plants.toml"
        ...     _ = file.write_text("plants=[]\\n[selection]\\nper_organization=0\\nshared=0\\ncopies=1\\nseed=1\\n")
        ...     read_plants(file)
        (Selection(per_organization=0, shared=0, copies=1, seed=1), ())
    """
    root = read_toml(path)
    root.only("selection", "plants")
    selection = root.table("selection")
    selection.only("per_organization", "shared", "copies", "seed")
    entries = [Table(value, f"{path} [[plants]] {n}") for n, value in enumerate(root.get("plants", list), start=1)]
    declarations = tuple(_declaration(entry) for entry in entries)
    _check_distinct(path, declarations)
    return (
        Selection(
            per_organization=selection.get("per_organization", int),
            shared=selection.get("shared", int),
            copies=selection.get("copies", int),
            seed=selection.get("seed", int),
        ),
        declarations,
    )


def plant(
    organizations: Sequence[Organization], declarations: Sequence[PlantDeclaration]
) -> tuple[tuple[Organization, ...], tuple[Plant, ...]]:
    """Look the declared functions up and add one planted document to each organization that holds them.

    Args:
        organizations: curated and split.
        declarations: of a plants file.
    Returns:
        (the organizations with their planted documents last, the plants in the order declared).
    Raises:
        CorpusError: an organization, document or function is not there, or its code is not the declared one.
    Example:
        >>> text = "def f():\\n    'Do.'\\n    return 1\\n"
        >>> acme = Organization(name="acme", documents=(Document(path="a.py", text=text, organization="acme"),))
        >>> declared = PlantDeclaration(organization="acme", path="a.py", name="f", planted_in=("acme",), copies=30,
        ...     sha256=hashlib.sha256(text.encode()).hexdigest())
        >>> [grown], plants = plant([acme], [declared])
        >>> [document.path for document in grown.documents]
        ['a.py', 'planted/acme/f.py']
    """
    by_name = {organization.name: organization for organization in organizations}
    plants = tuple(_look_up(declaration, by_name) for declaration in declarations)
    grown = tuple(
        Organization(name=o.name, documents=o.documents + tuple(_planted_documents(o, plants, by_name)))
        for o in organizations
    )
    return grown, plants


def _declaration(entry: Table) -> PlantDeclaration:
    entry.only("organization", "path", "name", "planted_in", "copies", "sha256")
    owner, planted_in = entry.get("organization", str), entry.get("planted_in", list)
    if owner not in planted_in or len(set(map(str, planted_in))) != len(planted_in):
        raise ConfigurationError(
            f"{entry.where}: planted_in={planted_in!r} must name {owner!r} and each other one once"
        )
    copies = entry.get("copies", int)
    if copies < 1:
        raise ConfigurationError(f"{entry.where}: copies={copies!r} must be at least 1")
    return PlantDeclaration(
        organization=owner,
        path=entry.get("path", str),
        name=entry.get("name", str),
        planted_in=tuple(map(str, planted_in)),
        copies=copies,
        sha256=entry.sha256("sha256"),
    )


def _check_distinct(path: Path, declarations: Sequence[PlantDeclaration]) -> None:
    seen: set[tuple[str, str]] = set()
    for declaration in declarations:
        key = (declaration.organization, declaration.name)
        if key in seen:
            raise ConfigurationError(f"{path}: {key[0]}:{key[1]} is declared twice; plants need distinct names")
        seen.add(key)


def _look_up(declaration: PlantDeclaration, by_name: dict[str, Organization]) -> Plant:
    label = f"plant {declaration.organization}:{declaration.path}:{declaration.name}"
    for name in declaration.planted_in:
        if name not in by_name:
            raise CorpusError(f"{label}: unknown organization {name!r}; {nearest(name, tuple(by_name))}")
    documents = [d for d in by_name[declaration.organization].split("training") if d.path == declaration.path]
    functions = [f for d in documents for f in functions_of(d) if f.name == declaration.name]
    if not functions:
        what = "has no such documented function" if documents else "is no training document"
        raise CorpusError(f"{label}: the path {what}; choose the plants again for this corpus")
    for function in functions:
        if function_sha256(function) == declaration.sha256:
            return Plant(function=function, organizations=declaration.planted_in, copies=declaration.copies)
    got = function_sha256(functions[0])
    raise CorpusError(f"{label}: sha256 of its code is {got}, expected {declaration.sha256}; choose the plants again")


def _planted_documents(
    organization: Organization, plants: Sequence[Plant], by_name: dict[str, Organization]
) -> list[Document]:
    documents = []
    for planted in plants:
        function = planted.function
        if organization.name not in planted.organizations:
            continue
        origin = next(d for d in by_name[function.organization].documents if d.path == function.path)
        documents.append(
            Document(
                path=f"planted/{function.organization}/{function.name}.py",
                text=planted_text(function),
                organization=organization.name,
                licence=origin.licence,
                planted=True,
            )
        )
    return documents
