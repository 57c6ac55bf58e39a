"""Opening: which back end answers for a checkpoint, loaded when it is first asked, one at a time.

A plugin's own comes first, then the server that a URL names, then what --collabcode-backend says.
Not covered: what is asked (pipeline.py).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from importlib import metadata

import tokenizers
import torch
import transformers

from pytest_collabcode.backends.endpoint import EndpointBackend
from pytest_collabcode.backends.vllm import VllmBackend, require_vllm
from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.generation.decoders import FAMILIES
from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.models.load import load, native_dtype, skeleton
from pytest_collabcode.records import Backend, Checkpoint, Signature
from pytest_collabcode.settings import Settings

DEFAULT, TRANSFORMERS, ENDPOINT, VLLM = "torch", "transformers", "endpoint", "vllm"

SIGNED = ("torch", "transformers", VLLM)  # tokenizers' version stands beside transformers', which asks for it

OwnBackend = Callable[[Checkpoint], Backend | None]
"""What a plugin or conftest supplies for a checkpoint, if anything."""


class Opening:
    """The back ends of one session.

    Args:
        settings: backend, device and batch size.
        own_backend: asked first, once for each checkpoint.
    Example:
        >>> from pathlib import Path
        >>> from types import SimpleNamespace
        >>> from pytest_collabcode.settings import make_settings
        >>> model = Checkpoint(name="s", path=Path("s"), weights_digest="w", tokenizer_digest="", n_parameters=0)
        >>> settings = make_settings(directory=Path())
        >>> Opening(settings, lambda checkpoint: None).place("task", model)
        'task cpu torch ... transformers ... tokenizers ...'
        >>> own = Opening(settings, lambda checkpoint: SimpleNamespace())
        >>> own.place("task", model), own.signature(model)
        ('task SimpleNamespace', (('backend', 'SimpleNamespace'),))
    """

    def __init__(self, settings: Settings, own_backend: OwnBackend) -> None:
        self._settings, self._own_backend = settings, own_backend
        self._own_names: dict[Checkpoint, str] = {}  # -> class of the plugin's own back end, "" = none
        self._fits: dict[Checkpoint, bool] = {}  # -> one of our decoders runs it
        self._loaded: tuple[Checkpoint, str, Backend] | None = None

    def check(self) -> None:
        """Refuse a device that is not there and a back end that is not installed.

        Raises:
            ConfigurationError: one sentence that names the option and the way out.
        """
        name = self._settings.device
        if self._settings.backend == VLLM:
            require_vllm()
            _, _, number = name.partition(":")
            if number:
                raise ConfigurationError(
                    f"--collabcode-device={name!r}: vLLM takes all GPUs that it sees; let it see that one: "
                    f"CUDA_VISIBLE_DEVICES={number} and --collabcode-device=cuda"
                )
        try:
            torch.empty(1, device=name)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).split("\n")[0]
            raise ConfigurationError(f"--collabcode-device={name!r} cannot be used here: {reason}") from None

    def backend(self, checkpoint: Checkpoint) -> Backend:
        """Return a checkpoint's back end; the one before it is let go."""
        return self._open(checkpoint, self._name(checkpoint))

    def scorer(self, checkpoint: Checkpoint) -> Backend:
        """Return a back end that knows every token's logit and gives embeddings: vLLM does not, the default does."""
        return self._open(checkpoint, self._scorer_name(checkpoint))

    def place(self, what: str, checkpoint: Checkpoint, *, scores: bool = False) -> str:
        """Return what is asked with what answers it: another engine, version or kind of device rounds otherwise.

        All that `signature` says of how a number was computed is in it, so that nothing computed otherwise is served.

        Args:
            what: the task, with its version.
            checkpoint: that is asked.
            scores: it is asked of the scorer.
        """
        name = self._scorer_name(checkpoint) if scores else self._name(checkpoint)
        where = self._settings.device.partition(":")[0] if name == DEFAULT else name
        dtypes = (dtype for _, dtype in self._gpu_dtype(name))
        versions = (f"{library} {version}" for library, version in _versions(name))
        return " ".join([what, where, *dtypes, *versions])

    def signature(self, checkpoint: Checkpoint, *, scores: bool = False) -> Signature:
        """Return which libraries, back end and adapter a number depends on; no back end for our own decoders.

        Args:
            checkpoint: that was asked.
            scores: the scorer was.
        """
        name = self._scorer_name(checkpoint) if scores else self._name(checkpoint)
        versions = [(library, version) for library, version in _versions(name) if library in SIGNED]
        if name == DEFAULT and not self._has_decoder(checkpoint):
            name = TRANSFORMERS  # its `generate` is what the default falls back to
        pairs = versions + ([("backend", name)] if name != DEFAULT else [])
        if name == ENDPOINT:
            pairs.append(("weights", "unverified"))
        pairs += self._gpu_dtype(name)
        if checkpoint.adapter is not None:
            pairs.append(("adapter", checkpoint.adapter.name))
        return tuple(pairs)

    def notes(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        """Return what the loaded back end went through that a reader of the run should know."""
        backend = self._loaded[2] if self._loaded and self._loaded[0] == checkpoint else None
        if not isinstance(backend, TorchBackend) or not backend.n_halved:
            return ()
        return (f"{checkpoint.name}: memory ran out, so at most {backend.batch_size} completions were drawn at once",)

    def _name(self, checkpoint: Checkpoint) -> str:
        if checkpoint not in self._own_names:
            own = self._own_backend(checkpoint)
            self._own_names[checkpoint] = type(own).__qualname__ if own is not None else ""
            if own is not None:
                self._loaded = (checkpoint, type(own).__qualname__, own)
        own_name = self._own_names[checkpoint]
        return own_name or (ENDPOINT if checkpoint.url else self._settings.backend)

    def _gpu_dtype(self, name: str) -> list[tuple[str, str]]:
        """Return in which type numbers are held, if that is not float32 on the CPU."""
        device = self._settings.device
        ours = name in (DEFAULT, TRANSFORMERS) and device.startswith("cuda")
        return [("dtype", str(native_dtype(device)).removeprefix("torch."))] if ours else []

    def _has_decoder(self, checkpoint: Checkpoint) -> bool:
        if checkpoint not in self._fits:
            model = skeleton(checkpoint)
            self._fits[checkpoint] = any(family.fits(model) for family in FAMILIES)
        return self._fits[checkpoint]

    def _scorer_name(self, checkpoint: Checkpoint) -> str:
        name = self._name(checkpoint)
        return DEFAULT if name == VLLM else name

    def _open(self, checkpoint: Checkpoint, name: str) -> Backend:
        if self._loaded is None or self._loaded[:2] != (checkpoint, name):
            if self._loaded and isinstance(self._loaded[2], VllmBackend):
                self._loaded[2].close()
            self._loaded = None  # before the next one takes memory
            if self._settings.device.startswith("cuda"):
                gc.collect()
                torch.cuda.empty_cache()
            self._loaded = (checkpoint, name, self._made(checkpoint, name))
        return self._loaded[2]

    def _made(self, checkpoint: Checkpoint, name: str) -> Backend:
        batch_size = self._settings.batch_size
        if name == ENDPOINT:
            return EndpointBackend(checkpoint, at_once=batch_size)
        if name == VLLM:
            return VllmBackend(checkpoint, batch_size=batch_size)
        own = self._own_backend(checkpoint) if self._own_names.get(checkpoint) else None
        if own is not None:
            return own
        loaded = load(checkpoint, device=self._settings.device)
        return TorchBackend(loaded, batch_size=batch_size, own_decoders=name != TRANSFORMERS)


def _versions(name: str) -> list[tuple[str, str]]:
    """Return the libraries that a back end computes with here; none are known of a server or a plugin's own."""
    if name not in (DEFAULT, TRANSFORMERS, VLLM):
        return []
    versions = [
        ("torch", str(torch.__version__)),
        ("transformers", transformers.__version__),
        ("tokenizers", tokenizers.__version__),
    ]
    return versions + ([(VLLM, metadata.version(VLLM))] if name == VLLM else [])
