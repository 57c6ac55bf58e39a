"""pytest-collabcode: decides whether a collaboratively trained code model may be released.

Importing the package costs nothing: heavy libraries are imported where they are used.
"""

__version__ = "0.1.0"
