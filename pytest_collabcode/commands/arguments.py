"""The arguments of `collabcode clones`, `index` and `execute`; nothing heavy is imported to parse them.

Not covered: the other commands' (cli.py), what the commands do (clones.py, index.py, seal.py, execute.py).
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
    build.set_defaults(kept="there is no index, and the same command begins anew")
    build.add_argument("--normalization", default="verbatim", metavar="NAME", help=NORMALIZATION)
    build.add_argument("--min-lines", type=int, default=6, metavar="N", help="of a clone (default: 6)")
    build.add_argument("--sparse", action="store_true", help="a quarter of the windows: for 100 GB and more")
    add = _action(
        actions,
        "add",
        "add to an index; what stands in it already is passed over, and nothing is forgotten: of an edited file both "
        "versions are asked from then on, and so is a deleted one, until the index is built anew",
    )
    add.set_defaults(kept="the index is as it was, and the same command begins anew")
    for parser in (build, add):
        parser.add_argument("--corpus", required=True, action="append", metavar="ORGANIZATION=PATH", help=CODE)
        parser.add_argument("--engine", default="local", metavar="NAME", help="local, pool, duckdb or ray")
        _add_scale(parser)
        parser.add_argument("--downloads", metavar="DIR", default=".collabcode/downloads", help="of wheel: sources")
    _action(actions, "info", "say what an index holds").add_argument("--json", action="store_true")
    verify = _action(actions, "verify", "compare everything with its checksums")
    verify.add_argument("--rebuild", action="store_true", help="make damaged segments anew from their texts")
    _add_compare(actions)
    seal = _action(actions, "seal", "write a file that others can ask without seeing code")
    seal.add_argument("--out", required=True, metavar="FILE")
    seal.set_defaults(kept="no sealed file was written")
    resolve = _action(actions, "resolve", "say which lines a fingerprint of a sealed index stands for")
    resolve.add_argument("fingerprint", nargs="+")
    seal.add_argument("--key-file", required=True, metavar="FILE", help="made if it is not there")
    resolve.add_argument("--key-file", required=True, metavar="FILE", help="that the index was sealed with")
    return index


def add_execute(commands: Any) -> argparse.ArgumentParser:
    """Add the parser of `collabcode execute`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> _ = add_execute(parser.add_subparsers(dest="command"))
        >>> parser.parse_args(["execute", "--problems=p", "--generations=g", "--out=o"]).unsafe_execution
        False
    """
    execute: argparse.ArgumentParser = commands.add_parser(
        "execute", help="run generated programs of a file, isolated", allow_abbrev=False
    )
    execute.add_argument("--problems", required=True, metavar="P.jsonl", help="in HumanEval's shape, or P.jsonl.gz")
    execute.add_argument("--generations", required=True, metavar="G.jsonl", help="task_id, completion, further keys")
    execute.add_argument(
        "--out", required=True, metavar="O.jsonl", help="one result for each line of G, written at the end; resumed"
    )
    execute.add_argument("--workers", type=int, metavar="N", help="programs at a time (default: the usable cores)")
    execute.add_argument("--unsafe-execution", action="store_true", help="run them even where nothing isolates them")
    execute.set_defaults(kept="what has run is stored beside --out, and the same command goes on from there")
    return execute


def _add_compare(actions: Any) -> None:
    compare = actions.add_parser(
        "compare", help="find the code that stands in two organizations' indexes, or of one", allow_abbrev=False
    )
    compare.add_argument("indexes", nargs="*", metavar="DIR", help="indexes, as --index")
    compare.add_argument("--index", action="append", default=[], metavar="DIR", help="of one or more organizations")
    compare.add_argument(
        "--engine", default="local", metavar="NAME", help="local; duckdb joins all windows out of core: same result"
    )
    _add_scale(compare)
    compare.add_argument("--json", action="store_true", help="print JSON")


def _add_scale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes of pool, duckdb and ray")
    parser.add_argument(
        "--memory-mb", type=int, default=768, metavar="N", help="for batches, a sort or a join (default: 768)"
    )


def _action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.add_argument("--index", required=True, metavar="DIR")
    return parser
