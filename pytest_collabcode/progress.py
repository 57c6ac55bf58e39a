"""Progress of long work: bars on a terminal, plain lines elsewhere; nothing for what ends within two seconds.

Written to standard error, so that a redirected report stays clean.
"""

from __future__ import annotations

import sys
import time
from typing import Protocol

from tqdm import tqdm

QUIET_S = 2.0
LINE_EVERY_S = 20.0


class Report(Protocol):
    """What a long function calls now and then: done of total units, and what it is doing."""

    def __call__(self, done: float, total: float, text: str) -> None:
        """Tell how far the work is."""
        ...


class Progress:
    """Shows several pieces of work at once, each under its label.

    Example:
        >>> progress = Progress(terminal=False)
        >>> progress.update("demo/fedavg", 1, 10, "training")  # within two seconds nothing is shown
        >>> progress.close("demo/fedavg")
    """

    def __init__(self, *, terminal: bool | None = None) -> None:
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self._started: dict[str, float] = {}
        self._shown: dict[str, float] = {}
        self._bars: dict[str, tqdm[None]] = {}
        self._begin = time.monotonic()

    def update(self, label: str, done: float, total: float, text: str) -> None:
        """Show that `done` of `total` units of `text` are behind `label`."""
        now = time.monotonic()
        started = self._started.setdefault(label, now)
        if now - started < QUIET_S:
            return
        if self.terminal:
            self._bar(label, done, total, text)
        elif now - self._shown.get(label, 0.0) >= LINE_EVERY_S:
            self._shown[label] = now
            self.line(f"{label}: {text} {100 * done / total if total else 0:.0f} %")

    def line(self, text: str) -> None:
        """Write one line with the seconds since the start."""
        message = f"[{time.monotonic() - self._begin:5.0f} s] {text}"
        if self.terminal:
            tqdm.write(message, file=sys.stderr)
        else:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()

    def close(self, label: str) -> None:
        """Take away the bar of a finished piece of work."""
        bar = self._bars.pop(label, None)
        if bar is not None:
            bar.close()
        self._started.pop(label, None)

    def _bar(self, label: str, done: float, total: float, text: str) -> None:
        if label not in self._bars:
            bar_format = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
            self._bars[label] = tqdm(total=total, leave=False, bar_format=bar_format, file=sys.stderr)
        bar = self._bars[label]
        bar.total, bar.n = total, done
        bar.set_description_str(f"{label}: {text}")
