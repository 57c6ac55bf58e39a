"""Every error a user can meet, as one tree.

    CollabcodeError
    ├── ConfigurationError      wrong option, thresholds file or consortium file       exit 4
    │   ├── CorpusError         a corpus is empty, unreadable or not what it says      exit 4
    │   └── CheckpointError     a checkpoint is missing, incomplete or unsafe to load  exit 4
    ├── NegativeAnswerError     a command was asked, and the answer is no              exit 1
    └── MeasurementError        something broke while measuring                        exit 1, of a command 3
        ├── EmptyMeasurementError   nothing to measure; never reported as 0.0
        ├── IsolationError          generated code cannot be run safely here
        ├── InternalSampleError     the tool, not the sample, failed while executing it
        ├── StoreError              the store cannot be written (disk full, no permission)
        └── WorkerError             a worker process was killed or died

Messages name the subject, `name=value!r`, where it came from and the way out; one sentence where possible.
"""

from difflib import get_close_matches


class CollabcodeError(Exception):
    """Base of all errors raised on purpose; its text is shown to the user without a traceback."""


class ConfigurationError(CollabcodeError):
    """The request itself is wrong; correct the option or file that the message names."""


class CorpusError(ConfigurationError):
    """A corpus cannot be used as named; the message says which path and why."""


class CheckpointError(ConfigurationError):
    """A checkpoint cannot be used; the message names the file or tensor and what is expected."""


class NegativeAnswerError(CollabcodeError):
    """A command did what it was asked for and found what it looks for: an index is damaged, nothing has a name."""


class MeasurementError(CollabcodeError):
    """Something broke while measuring; what was measured before stays in the store."""


class EmptyMeasurementError(MeasurementError):
    """There was nothing to measure: no problems, no tokens, no prompts."""


class IsolationError(MeasurementError):
    """Kernel isolation is missing, so generated code is not run; the message says what to install."""


class InternalSampleError(MeasurementError):
    """The executor failed on a sample; it is never counted as a failed sample."""


class StoreError(MeasurementError):
    """The store could not be read or written; free space or choose another --collabcode-store."""


class WorkerError(MeasurementError):
    """A worker process ended early; run the same command again, it resumes."""


def nearest(name: str, valid: list[str] | tuple[str, ...]) -> str:
    """Return a hint that names the nearest valid spelling, then all of them.

    Args:
        name: what the user wrote.
        valid: the accepted names.
    Returns:
        A clause to append to an error sentence.
    Example:
        >>> nearest("fedavgg", ["fedavg", "fedyogi"])
        "did you mean 'fedavg'? valid: fedavg, fedyogi"
    """
    close = get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(valid)}"
