"""The doctor: in seconds, what would keep a gate from being measured here, and about how long one would take.

Every source of the consortium is read, so code that is missing is named here and not by a gate. Not covered: what
curation leaves of it, and whether a particular checkpoint is sound; the preflight of a run says that.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pytest_collabcode.clones.opening import open_any
from pytest_collabcode.corpus.consortium import Consortium, IndexSpec, OrganizationSpec, Source
from pytest_collabcode.corpus.fetch import fetch_wheel
from pytest_collabcode.corpus.plants import read_plants
from pytest_collabcode.corpus.sources import read_source
from pytest_collabcode.corpus.wheels import find_wheel
from pytest_collabcode.errors import CollabcodeError
from pytest_collabcode.execution.sandbox import LOOSE, Isolation, probe
from pytest_collabcode.machine import usable_cores
from pytest_collabcode.models.probes import measured_peaks
from pytest_collabcode.session import MIN_FREE_BYTES, Session
from pytest_collabcode.settings import Settings

# Measured once with `make gate` on the machine the figures of README come from; scaled by the GEMM probe here.
REFERENCE_CORE_S = {"smoke": 120.0, "demo": 2400.0, "paper": 400_000.0}
REFERENCE_GEMM_FLOPS = 93e9
FURTHER_WALLS = {  # those that a sandbox holds without
    "landlock": "no Landlock: Linux 5.13 or newer has it, where it is enabled",
    "cgroup": "no control group: memory and pids of cgroup v2 are not handed down to this process",
}

BOUND_THREADS = "so that threads are bounded, run as a user other than root, or where cgroup v2 is handed down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    text: str
    required: bool = True

    def line(self) -> str:
        """Return the check as one line.

        Example:
            >>> Check(name="disk", ok=True, text="80 GB free").line()
            'ok       disk: 80 GB free'
        """
        state = "ok" if self.ok else ("MISSING" if self.required else "note")
        return f"{state:<8} {self.name}: {self.text}"


def examine(settings: Settings) -> Iterator[Check]:
    """Look at isolation, disk, data, network and speed.

    Args:
        settings: consortium, store and profile.
    Yields:
        Checks, the quick ones first.
    Example:
        >>> from itertools import islice
        >>> from pytest_collabcode.settings import make_settings
        >>> [check.name for check in islice(examine(make_settings(directory=Path())), 3)]
        ['system', 'isolation', 'disk']
    """
    system = platform.system()
    yield Check(name="system", ok=system == "Linux", text=f"{system}, Python {platform.python_version()}")
    yield _isolation(probe())
    yield _disk(settings.store)
    consortium = Session(settings).consortium
    yield from _data(consortium, settings.store)
    yield _speed(settings)


def _isolation(isolation: Isolation) -> Check:
    if not isolation.available:
        text = f"{isolation.reason}; until then a run that measures pass@k stops before it begins"
        return Check(name="isolation", ok=False, text=text)
    missing = [text for wall, text in FURTHER_WALLS.items() if wall not in isolation.level]
    if LOOSE in isolation.bound and "cgroup" not in isolation.level:
        missing.append(BOUND_THREADS)
    return Check(
        name="isolation", ok=True, text="; ".join([isolation.level, f"a sample has {isolation.bound}", *missing])
    )


def _disk(store: Path) -> Check:
    existing = next(p for p in (store.absolute(), *store.absolute().parents) if p.exists())
    if not existing.is_dir():
        return Check(name="disk", ok=False, text=f"{existing} is a file, so {store} can be no store; name another")
    free = shutil.disk_usage(existing).free
    text = f"{free / 1e9:,.1f} GB free for {store}, about {MIN_FREE_BYTES / 1e9:.0f} GB needed"
    return Check(name="disk", ok=free >= MIN_FREE_BYTES and os.access(existing, os.W_OK), text=text)


def _data(consortium: Consortium, store: Path) -> Iterator[Check]:
    wheels = [s for o in consortium.organizations for s in o.sources if s.kind == "wheel"]
    missing = [s for s in wheels if find_wheel(s.target, store / "downloads") is None]
    if wheels:
        text = f"{len(wheels) - len(missing)} of {len(wheels)} wheels of {consortium.name!r} are there"
        yield Check(name="corpora", ok=not missing, text=text + ("; run: collabcode fetch" if missing else ""))
    for organization in consortium.organizations:
        yield from _sources(organization, [s for s in organization.sources if s not in missing], store / "downloads")
    for index in consortium.indexes:
        yield _tried(f"index of {index.name}", f"{index.path} can be asked", partial(_ask, index))
    if consortium.plants:
        yield _tried("plants", f"{consortium.plants} can be read", partial(read_plants, consortium.plants))
    for pretrained in consortium.pretrained:
        target = store / "models" / pretrained.name
        there = (target / "config.json").exists()
        said = str(target) if there else "not fetched; run: collabcode fetch"
        yield Check(name=pretrained.name, ok=there, text=said, required=False)
    if missing:
        yield _network(missing[0].target, missing[0].sha256)


def _sources(organization: OrganizationSpec, sources: Sequence[Source], downloads: Path) -> Iterator[Check]:
    """Read the sources that are to be here, as a run would: one line, or one for each wrong one."""
    name = organization.name
    looked = [_tried(name, "", partial(read_source, source, downloads=downloads)) for source in sources]
    wrong = [check for check in looked if not check.ok]
    if sources and not wrong:
        yield Check(name=name, ok=True, text=f"code in {', '.join(map(str, sources))}")
    yield from wrong


def _ask(index: IndexSpec) -> None:
    open_any(index.path, key_file=index.key_file).chosen(index.name)


def _tried(name: str, text: str, work: Callable[[], object]) -> Check:
    try:
        work()
    except CollabcodeError as error:
        return Check(name=name, ok=False, text=str(error))
    return Check(name=name, ok=True, text=text)


def _network(requirement: str, sha256: str) -> Check:
    with tempfile.TemporaryDirectory() as directory:
        try:
            fetch_wheel(requirement, sha256=sha256, directory=Path(directory))
        except CollabcodeError as error:
            return Check(name="network", ok=False, text=str(error))
    return Check(name="network", ok=True, text=f"{requirement} can be downloaded")


def _speed(settings: Settings) -> Check:
    peaks = measured_peaks("cpu")
    cores = usable_cores()
    core_s = REFERENCE_CORE_S[settings.profile.name] * REFERENCE_GEMM_FLOPS / peaks.flops_per_s
    text = (
        f"{cores} cores, {peaks.flops_per_s / 1e9:.0f} GFLOP/s float32 each: the demo's subjects take about "
        f"{core_s / cores / 60:.0f} minutes with an empty store, profile {settings.profile.name}"
    )
    return Check(name="time", ok=True, text=text, required=False)
