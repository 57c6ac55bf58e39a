"""The process `collabcode`, which is also `python -m pytest_collabcode`."""

import signal
import sys
from typing import NoReturn

from pytest_collabcode import cli


def main() -> NoReturn:
    """Run the command line; once its answer is known, Ctrl-C while the interpreter ends does not change it."""
    code = cli.main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    main()
