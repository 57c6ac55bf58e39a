"""A block of rows whose keys and values lie in one buffer a layer, and attention of one new token a row.

Query heads that share keys are the query length of torch's kernel, so keys are never repeated. A block is as wide as
its longest row; what lies behind the end of a shorter one is masked.
Not covered: which rows live where (slots.py).
Source: torch's scaled_dot_product_attention, which on a CPU works through a row's keys in one pass.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from pytest_collabcode.generation.decoders.decoder import Decoder, Held, Prefill
from pytest_collabcode.generation.decoders.texts import spans


class Block:
    """Rows first, first + 1, ... of the slots.

    Args:
        decoder: for the number of layers, heads, dtype and device.
        first: number of the first row.
        rows: how many.
        columns: tokens that a row can hold: prompt and new ones.
        source_columns: tokens of a source that a row can hold; 0 where there is no encoder.
        ends: int64 (rows,), how many tokens each row holds; the slots keep it up to date.
    Example:
        >>> from pytest_collabcode.generation.decoders import own_decoder
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> decoder = own_decoder(build(recipe("llama-smoke"), 1))
        >>> ends = torch.tensor([3, 1])
        >>> block = Block(decoder, 0, rows=2, columns=8, source_columns=0, ends=ends)
        >>> for row, place in enumerate([0, 1]):
        ...     block.fill(slice(row, row + 1), decoder.read([[1, 2, 3], [4]]), place)
        >>> block.open(2, 4, masked=True)
        >>> q, k = torch.ones(2, 4, 16), torch.ones(2, 4, 16)
        >>> tuple(block.own(0, q, k, k).shape), block.n_bytes
        ((2, 64), 8192)
    """

    def __init__(
        self, decoder: Decoder, first: int, *, rows: int, columns: int, source_columns: int, ends: torch.Tensor
    ) -> None:
        self.first, self.rows, self.columns = first, rows, columns
        self.span = slice(first, first)  # the rows that are open
        self._decoder, self._ends = decoder, ends
        self._own = _buffer(decoder, rows, columns)
        self._source = _buffer(decoder, rows, source_columns)
        self._own_layers, self._source_layers = _layers(self._own), _layers(self._source)
        self._source_ends = torch.zeros(rows, dtype=torch.int64, device=decoder.device)
        self._numbers = torch.arange(rows, device=decoder.device)
        self._n, self._width = 0, 0
        self._mask: torch.Tensor | None = None
        self._source_mask: torch.Tensor | None = None

    @property
    def n_bytes(self) -> int:
        """Memory of the buffers."""
        return sum(buffer.numel() * buffer.element_size() for buffer in (self._own, self._source))

    def fill(self, rows: slice, prefill: Prefill, place: int) -> None:
        """Copy one of the prompts that were read into rows of this block."""
        _copy(self._own_layers, rows, prefill.own, place)
        if prefill.source is not None:
            _copy(self._source_layers, rows, prefill.source, place)
            self._source_ends[rows] = prefill.source.lengths[place]

    def copy_row(self, row: int, other: Block, other_row: int) -> None:
        """Copy a row of another block, which is not wider, or of this one."""
        for mine, theirs in ((self._own, other._own), (self._source, other._source)):
            mine[:, :, row, :, : theirs.shape[4]] = theirs[:, :, other_row]
        self._source_ends[row] = other._source_ends[other_row]

    def open(self, n: int, width: int, *, masked: bool) -> None:
        """Prepare a step of the first n rows over the first `width` columns, the coming token's among them.

        Args:
            n: rows that take part.
            width: at least one more than any of them holds.
            masked: False where all of them end in the last of these columns.
        """
        self.span, self._n, self._width = slice(self.first, self.first + n), n, width
        columns = torch.arange(width, device=self._ends.device)
        distances = self._ends[:n, None] - columns  # (n, T), of a key from the query
        bias = self._decoder.bias(distances)
        self._mask = None
        if masked or bias is not None:
            seen = torch.zeros(1, dtype=self._decoder.dtype, device=columns.device) if bias is None else bias
            hidden = (distances < 0)[:, None] if bias is not None else distances < 0
            mask = torch.where(hidden, -torch.inf, seen)
            self._mask = mask[:, :, None] if bias is not None else mask[:, None, None]  # (n, 1 or H, 1, T)
        if self._source.numel():
            there = torch.arange(self._source.shape[4], device=columns.device) < self._source_ends[:n, None]
            zero = torch.zeros(1, dtype=self._decoder.dtype, device=columns.device)
            self._source_mask = torch.where(there, zero, -torch.inf)[:, None, None]  # (n, 1, 1, S)

    def own(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Append keys and values, (n, K, d), to the open rows and return what queries (n, H, d) find."""
        keys, values = self._own_layers[layer]
        numbers, ends = self._numbers[: self._n], self._ends[: self._n]
        keys[numbers, :, ends] = k
        values[numbers, :, ends] = v
        return self._seen(q, keys[: self._n, :, : self._width], values[: self._n, :, : self._width], self._mask)

    def source(self, layer: int, q: torch.Tensor) -> torch.Tensor:
        """Return what queries (n, H, d) of the open rows find in their sources."""
        keys, values = self._source_layers[layer]
        return self._seen(q, keys[: self._n], values[: self._n], self._source_mask)

    def _seen(
        self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        n, heads, width = q.shape
        grouped = q.reshape(n, keys.shape[1], -1, width)  # (n, K, H / K, d)
        seen = scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=self._decoder.scale)
        return seen.reshape(n, heads * width)


def row_bytes(decoder: Decoder, columns: int) -> int:
    """Return the memory that the keys and values of a row of so many tokens take.

    Example:
        >>> from pytest_collabcode.generation.decoders import own_decoder
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> row_bytes(own_decoder(build(recipe("llama-smoke"), 1)), 8)
        4096
    """
    return 2 * decoder.n_layers * decoder.n_key_heads * decoder.head_width * columns * decoder.dtype.itemsize


def _buffer(decoder: Decoder, rows: int, columns: int) -> torch.Tensor:
    """Return room for keys and values, (L, 2, rows, K, columns, d): in one piece, so that a row moves at once.

    Zeros, since a masked column still counts as nought times what lies there.
    """
    shape = (decoder.n_layers, 2, rows, decoder.n_key_heads, columns, decoder.head_width)
    return torch.zeros(shape, dtype=decoder.dtype, device=decoder.device)


def _layers(buffer: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(keys, values) for keys, values in buffer]


def _copy(layers: list[tuple[torch.Tensor, torch.Tensor]], rows: slice, held: Held, place: int) -> None:
    span, length = spans(held.lengths)[place], held.lengths[place]
    for (keys, values), k, v in zip(layers, held.keys, held.values, strict=True):
        keys[rows, :, :length] = k[span].transpose(0, 1)
        values[rows, :, :length] = v[span].transpose(0, 1)
