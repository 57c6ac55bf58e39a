"""`python -m pytest_collabcode` is `collabcode`."""

import sys

from pytest_collabcode.cli import main

if __name__ == "__main__":
    sys.exit(main())
