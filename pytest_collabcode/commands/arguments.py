"""The arguments of `collabcode clones` and `collabcode index`; nothing heavy is imported to parse them.

Not covered: the other commands' (cli.py), what the commands do (clones.py, index.py, seal.py).
"""

from __future__ import annotations

import argparse
from typing import Any

CORPUS = "folder, file, index or sealed index; also dir:DIR, wheel:NAME==VERSION, jsonl:FILE (repeatable)"
CODE = "folder of text files, or a file; also dir:DIR (Python only), wheel:NAME==VERSION, jsonl:FILE (repeatable)"
NORMALIZATION = "verbatim (default), code-only, simian-py, simian-text or type-2"


def add_clones(commands: Any) -> argparse.ArgumentParser:
    """Add the parser of `collabcode clones`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> _ = add_clones(parser.add_subparsers(dest="command"))
        >>> parser.parse_args(["clones", "--generated=x.py", "--corpus=acme=code"]).corpus
        ['acme=code']
    """
    clones: argparse.ArgumentParser = commands.add_parser(
        "clones", help="say whose code stands in a file", allow_abbrev=False
    )
    clones.add_argument("files", nargs="*", metavar="FILE", help="texts, as --generated")
    clones.add_argument("--generated", action="append", default=[], metavar="FILE", help="a text, - for stdin")
    clones.add_argument("--corpus", required=True, action="append", metavar="ORGANIZATION=PATH", help=CORPUS)
    clones.add_argument("--key-file", action="append", default=[], metavar="ORGANIZATION=FILE")
    clones.add_argument("--normalization", metavar="NAME", help=NORMALIZATION)
    clones.add_argument("--min-lines", type=int, metavar="N", help="of a clone (default: 6)")
    clones.add_argument("--prompt-lines", type=int, default=0, metavar="N", help="first lines that were given")
    clones.add_argument("--allow", metavar="FILE", help="fragments the organizations agreed to ignore")
    clones.add_argument("--near", action="store_true", help="also near copies (type 3) of Python functions")
    clones.add_argument("--json", action="store_true", help="print JSON")
    clones.add_argument("--fail", action="store_true", help="exit 1 if anything is found")
    clones.add_argument("--downloads", metavar="DIR", default=".collabcode/downloads", help="of wheel: sources")
    return clones


def add_index(commands: Any) -> argparse.ArgumentParser:
    """Add the parsers of `collabcode index ...`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> _ = add_index(parser.add_subparsers(dest="command"))
        >>> parser.parse_args(["index", "build", "--index=i", "--corpus=acme=code"]).action
        'build'
    """
    index: argparse.ArgumentParser = commands.add_parser("index", help="an organization's code, ready to be asked")
    actions = index.add_subparsers(dest="action", required=True)
    build = _action(actions, "build", "make an index of folders, files or sources")
    build.add_argument("--normalization", default="verbatim", metavar="NAME", help=NORMALIZATION)
    build.add_argument("--min-lines", type=int, default=6, metavar="N", help="of a clone (default: 6)")
    build.add_argument("--sparse", action="store_true", help="a quarter of the windows: for 100 GB and more")
    add = _action(actions, "add", "add to an index; what stands in it already is passed over")
    for parser in (build, add):
        parser.add_argument("--corpus", required=True, action="append", metavar="ORGANIZATION=PATH", help=CODE)
        parser.add_argument("--engine", default="local", metavar="NAME", help="local, pool, duckdb or ray")
        parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes of pool, duckdb and ray")
        parser.add_argument("--downloads", metavar="DIR", default=".collabcode/downloads", help="of wheel: sources")
    _action(actions, "info", "say what an index holds").add_argument("--json", action="store_true")
    verify = _action(actions, "verify", "compare everything with its checksums")
    verify.add_argument("--rebuild", action="store_true", help="make damaged segments anew from their texts")
    _action(actions, "compare", "find the code that stands in two organizations of an index")
    seal = _action(actions, "seal", "write a file that others can ask without seeing code")
    seal.add_argument("--out", required=True, metavar="FILE")
    resolve = _action(actions, "resolve", "say which lines a fingerprint of a sealed index stands for")
    resolve.add_argument("fingerprint", nargs="+")
    seal.add_argument("--key-file", required=True, metavar="FILE", help="made if it is not there")
    resolve.add_argument("--key-file", required=True, metavar="FILE", help="that the index was sealed with")
    return index


def _action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, allow_abbrev=False)
    parser.add_argument("--index", required=True, metavar="DIR")
    return parser
