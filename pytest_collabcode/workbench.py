"""The workbench: what all stages of a run share, in the session as in each worker process.

Not covered: judging; a worker knows no thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property

from pytest_collabcode.corpus.consortium import Consortium, read_consortium
from pytest_collabcode.machine import usable_cores
from pytest_collabcode.material import Material
from pytest_collabcode.memorization.allow_list import load_allowed
from pytest_collabcode.memorization.allowed import Allowed
from pytest_collabcode.progress import Report
from pytest_collabcode.settings import Settings, shipped
from pytest_collabcode.store import Store
from pytest_collabcode.subjects import Subject, find_subjects


class NotStoredError(Exception):
    """Something would have to be computed; see Workbench.only_stored."""


def _silent(done: float, total: float, text: str) -> None:
    """Report nothing."""


class Workbench:
    """Settings, store, subjects and material of one run.

    Attributes:
        report: told now and then how far long work is.
        note: told what a reader of the run should know, a sentence each time; notes keeps them.
        programs: generated ones that run at a time.
        only_stored: while True, what is not in the store raises NotStoredError instead of being computed.
    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from pytest_collabcode.settings import make_settings
        >>> open_workbench(make_settings(directory=Path(), options={"store": mkdtemp()})).allowed.entries
        ()
    """

    def __init__(self, settings: Settings, consortium: Consortium, subjects: Mapping[str, Subject]) -> None:
        self.settings = settings
        self.consortium = consortium
        self.subjects = subjects
        self.store = Store(settings.store)
        self.material = Material(
            consortium,
            settings.profile,
            downloads=self.store.downloads,
            seed=settings.seed,
            normalization=settings.normalization,
        )
        self.report: Report = _silent
        self.notes: list[str] = []
        self.note: Callable[[str], None] = self.notes.append
        self.programs = settings.workers if settings.device == "cpu" else usable_cores()
        self.only_stored = False

    @cached_property
    def allowed(self) -> Allowed:
        """The fragments that the organizations agreed to ignore; none without --collabcode-allow.

        Raises:
            ConfigurationError: the file is wrong.
        """
        if self.settings.allow is None:
            return Allowed()
        index, today = self.material.clone_index, datetime.now(UTC).date()
        return load_allowed(
            self.settings.allow, today=today, min_lines=index.min_lines, normalization=index.normalization
        )


def consortium_of(settings: Settings) -> Consortium:
    """Return the consortium that the settings name, the shipped demo by default.

    Raises:
        ConfigurationError: the file cannot be read or is wrong.
    Example:
        >>> from pathlib import Path
        >>> from pytest_collabcode.settings import make_settings
        >>> consortium_of(make_settings(directory=Path())).name
        'demo'
    """
    return read_consortium(settings.consortium or shipped("fixtures", "consortium.toml"))


def open_workbench(settings: Settings) -> Workbench:
    """Return a workbench with everything read from disk anew, as a worker process needs it.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from pytest_collabcode.settings import make_settings
        >>> with TemporaryDirectory() as folder:
        ...     settings = make_settings(directory=Path(folder), regimes=["fedavg"], options={"store": folder})
        ...     list(open_workbench(settings).subjects)
        ['demo/fedavg']
    """
    consortium = consortium_of(settings)
    organizations = tuple(o.name for o in consortium.organizations)
    return Workbench(settings, consortium, find_subjects(settings, consortium.name, organizations))
