"""A consortium file: which organizations train together, and where the code of each comes from.

Not covered: reading the sources (sources.py), fetching wheels (fetch.py), planted functions (plants.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pytest_collabcode.corpus.canaries import CANDIDATES, CanaryDeclaration
from pytest_collabcode.corpus.tables import Table, read_toml
from pytest_collabcode.errors import ConfigurationError, nearest

_ORGANIZATION_NAME = re.compile(r"[a-z0-9_-]+")
WORDS_OF_THRESHOLDS = ("any", "own", "other")  # source organizations that no organization is
_REQUIREMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_KINDS = ("wheel", "dir", "jsonl")
_TOP_KEYS = (
    "name",
    "seed",
    "heldout_ratio",
    "remove_near_duplicates",
    "plants",
    "canaries",
    "organizations",
    "indexes",
    "pretrained",
)
_MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place that code comes from."""

    kind: str  # "wheel", "dir" or "jsonl"
    target: str  # "name==version" of a wheel, else an absolute path
    sha256: str = ""  # 64 hex digits; wheels always have it
    licence: str = ""  # SPDX identifier; a JSON line's own licence goes before it
    origin: str = ""  # who published it, for people

    def __str__(self) -> str:
        return f"{self.kind}:{self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationSpec:
    """An organization as declared: its name, the licence of its code and its sources."""

    name: str
    licence: str = ""
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """Code that can be asked but is not read: an index on disk, open or sealed, of one source organization."""

    name: str  # of the organization; its own documents, if it has some here, are then asked there instead
    path: Path  # absolute
    key_file: Path | None = None  # absolute; of a sealed index


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """A pretrained model inside a wheel, as declared."""

    name: str
    source: Source
    member: str  # path inside the wheel
    member_sha256: str
    licence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consortium:
    """Everything a consortium file says."""

    name: str
    organizations: tuple[OrganizationSpec, ...]
    seed: int = 1
    heldout_ratio: float = 0.2  # share of each organization's documents that is never trained on
    remove_near_duplicates: bool = False  # within an organization; off, as in the paper
    plants: Path | None = None  # absolute path of the plants file
    canaries: CanaryDeclaration | None = None  # of each organization
    indexes: tuple[IndexSpec, ...] = ()
    pretrained: tuple[Pretrained, ...] = ()
    path: Path | None = None  # the file this was read from


def read_consortium(path: Path) -> Consortium:
    """Read a consortium file.

    Args:
        path: of the TOML file. Relative `dir:` and `jsonl:` sources and `plants` are relative to its folder.
    Returns:
        The consortium, organizations in the file's order.
    Raises:
        ConfigurationError: a key is unknown, missing or wrong; the message names file, key and what is valid.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "consortium.toml"
        ...     _ = file.write_text('name = "ours"\\n[organizations.acme]\\nsources = ["dir:/srv/code"]\\n')
        ...     [str(source) for source in read_consortium(file).organizations[0].sources]
        ['dir:/srv/code']
    """
    table = read_toml(path)
    table.only(*_TOP_KEYS)
    folder = path.resolve().parent
    organizations = tuple(_organization(table, name, folder) for name in table.table("organizations").values)
    if not organizations:
        raise ConfigurationError(f'{path}: has no organizations; add [organizations.NAME] with sources = ["dir:..."]')
    plants = table.get("plants", str, "")
    return Consortium(
        name=table.get("name", str),
        organizations=organizations,
        seed=_seed(table),
        heldout_ratio=_heldout_ratio(table),
        remove_near_duplicates=bool(table.get("remove_near_duplicates", bool, False)),
        plants=folder / plants if plants else None,
        canaries=_canaries(table),
        indexes=tuple(_index(table, name, folder) for name in table.table("indexes").values),
        pretrained=tuple(_pretrained(table, name) for name in table.table("pretrained").values),
        path=path,
    )


def parse_source(text: str, *, folder: Path, where: str = "source") -> Source:
    """Parse "wheel:name==version", "dir:path" or "jsonl:path".

    Args:
        text: the source as written.
        folder: that relative paths start from.
        where: the text comes from, for the message.
    Raises:
        ConfigurationError: the kind is unknown or the target is not what that kind needs.
    Example:
        >>> parse_source("jsonl:data/acme.jsonl.gz", folder=Path("/srv")).target
        '/srv/data/acme.jsonl.gz'
    """
    kind, _, target = text.partition(":")
    if kind not in _KINDS or not target:
        raise ConfigurationError(
            f"{where}: source={text!r} is not wheel:NAME==VERSION, dir:PATH or jsonl:PATH; {nearest(kind, _KINDS)}"
        )
    if kind != "wheel":
        return Source(kind=kind, target=str(folder / Path(target).expanduser()))
    # pip gets this text as an argument: nothing that could be read as an option or a URL may pass.
    if not _REQUIREMENT.fullmatch(target):
        raise ConfigurationError(f"{where}: source={text!r} does not pin one version; write wheel:NAME==VERSION")
    return Source(kind=kind, target=target)


def _refuse_name(name: str, where: str) -> None:
    if not _ORGANIZATION_NAME.fullmatch(name):
        raise ConfigurationError(f"{where}: organization={name!r} may only use a-z, 0-9, _ and -")
    if name in WORDS_OF_THRESHOLDS:
        raise ConfigurationError(f"{where}: organization={name!r} is a word of thresholds; choose another name")


def _organization(root: Table, name: str, folder: Path) -> OrganizationSpec:
    _refuse_name(name, root.where)
    values = root.table("organizations").get(name, dict)
    table = Table(values, f"{root.where} [organizations.{name}]")
    table.only("licence", "sources")
    licence = table.get("licence", str, "")
    sources = tuple(_source(entry, licence, folder, table.where) for entry in table.get("sources", list))
    if not sources:
        raise ConfigurationError(f'{table.where}: sources is empty; name at least one, such as "dir:code"')
    return OrganizationSpec(name=name, licence=licence, sources=sources)


def _index(parent: Table, name: str, folder: Path) -> IndexSpec:
    table = parent.table("indexes").table(name)
    _refuse_name(name, table.where)
    table.only("path", "key_file")
    key_file = table.get("key_file", str, "")
    return IndexSpec(
        name=name, path=folder / table.get("path", str), key_file=folder / key_file if key_file else None
    )


def _source(entry: object, licence: str, folder: Path, where: str) -> Source:
    if not isinstance(entry, str | dict):
        raise ConfigurationError(f"{where}: source={entry!r} is neither a string nor a table")
    table = Table({"source": entry} if isinstance(entry, str) else entry, where)
    table.only("source", "sha256", "licence", "origin")
    source = parse_source(table.get("source", str), folder=folder, where=where)
    if source.kind == "dir" and "sha256" in table.values:
        raise ConfigurationError(f"{where}: sha256 of {source} is not possible; a folder has none, leave it out")
    pinned = source.kind == "wheel" or "sha256" in table.values
    return Source(
        kind=source.kind,
        target=source.target,
        sha256=Table(table.values, f"{where} {source.kind}:{source.target}").sha256("sha256") if pinned else "",
        licence=table.get("licence", str, licence),
        origin=table.get("origin", str, ""),
    )


def _pretrained(root: Table, name: str) -> Pretrained:
    table = Table(root.table("pretrained").get(name, dict), f"{root.where} [pretrained.{name}]")
    table.only("source", "sha256", "licence", "origin", "member", "member_sha256")
    own = {key: value for key, value in table.values.items() if not key.startswith("member")}
    source = _source(own, "", Path(), table.where)
    if source.kind != "wheel":
        raise ConfigurationError(f"{table.where}: source={str(source)!r} is not a wheel:NAME==VERSION")
    member, digest = table.get("member", str), table.sha256("member_sha256")
    return Pretrained(name=name, source=source, member=member, member_sha256=digest, licence=source.licence)


def _canaries(root: Table) -> CanaryDeclaration | None:
    if "canaries" not in root.values:
        return None
    table = root.table("canaries")
    table.only("number", "copies", "seed", "candidates")
    copies = [Table({"copies": entry}, table.where).get("copies", int) for entry in table.get("copies", list)]
    return CanaryDeclaration(
        number=table.get("number", int),
        copies=tuple(copies),
        seed=_seed(table, _seed(root)),
        candidates=table.get("candidates", int, CANDIDATES),
    ).check(f"{table.where}: ")


def _seed(table: Table, default: int = 1) -> int:
    seed = int(table.get("seed", int, default))
    if not 0 <= seed <= _MAX_SEED:
        raise ConfigurationError(f"{table.where}: seed={seed!r} is not between 0 and {_MAX_SEED}")
    return seed


def _heldout_ratio(table: Table) -> float:
    ratio = float(table.get("heldout_ratio", float, 0.2))
    if not 0.0 < ratio < 1.0:
        raise ConfigurationError(f"{table.where}: heldout_ratio={ratio!r} is not between 0 and 1")
    return ratio
