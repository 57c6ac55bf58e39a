"""Key-value slots: one buffer per layer into which rows come, grow by a column a step, and leave.

Rows share the column of their newest token; a row's prompt is right-aligned to it, and what lies left of a row's
first token is masked. Appending writes in place (transformers' DynamicCache copies everything every step, which is
most of the time on a CPU); a row that leaves is replaced by the last one, and columns nobody uses are shifted out.
Not covered: paged memory, sharing of a prompt's columns between rows, offloading.
Sources: transformers' cache_utils for the interface of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, DynamicLayer

SLACK_COLUMNS = 64  # columns are shifted at most once in so many steps


class _SlotLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's view of the slots: as long as what the living rows use."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.buffers = (keys, values)  # (rows, heads, columns, d) each
        self.window = (0, 0, 0)  # rows in use, first column, column of the newest token
        self.is_initialized = True
        self.dtype, self.device = keys.dtype, keys.device

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n, low, end = self.window
        views = []
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:n, :, end : end + 1] = states
            views.append(buffer[:n, :, low : end + 1])
        return views[0], views[1]

    def get_seq_length(self) -> int:
        return self.window[2] - self.window[1]


class Slots:
    """The cache of a running batch, with the token history of each row beside it.

    Args:
        like: the cache of a prefill, for the number of layers, shapes, dtype and device.
        rows: the largest batch.
        columns: longest prompt plus new tokens.
    Example:
        >>> prefill = Cache(layers=[DynamicLayer()])
        >>> _ = prefill.update(torch.ones(2, 1, 3, 4), torch.ones(2, 1, 3, 4), 0)
        >>> slots = Slots(prefill, rows=4, columns=8)
        >>> slots.admit(prefill, [[7, 8, 9], [5]])
        >>> slots.n_rows, slots.mask().tolist(), slots.positions().tolist()
        (2, [[True, True, True, True], [False, False, True, True]], [[3], [1]])
    """

    def __init__(self, like: Cache, *, rows: int, columns: int) -> None:
        self.capacity, self.columns = rows, columns + SLACK_COLUMNS
        layers = []
        for layer in like.layers:
            shape = [(rows, t.shape[1], self.columns, t.shape[3]) for t in (layer.keys, layer.values)]
            layers.append(_SlotLayer(layer.keys.new_zeros(shape[0]), layer.values.new_zeros(shape[1])))
        self.cache = Cache(layers=layers)
        self._layers = layers
        self._device = layers[0].device
        self._tokens = torch.zeros(rows, self.columns, dtype=torch.int64, device=self._device)
        self._start: list[int] = []  # first column of each living row
        self._end = 0  # column that the next token takes

    @property
    def n_rows(self) -> int:
        """Rows in use; they are the first ones of every buffer."""
        return len(self._start)

    def admit(self, prefill: Cache, prompts: Sequence[Sequence[int]]) -> None:
        """Append rows whose prompts were prefilled, left-padded to one width.

        Args:
            prefill: keys and values of shape (len(prompts), heads, width, d), right-aligned.
            prompts: token ids; none longer than the living rows are (admit the longest first).
        """
        width = max(map(len, prompts))
        if not self._start:
            self._end = width
        first, stop, end = self.n_rows, self.n_rows + len(prompts), self._end
        for layer, filled in zip(self._layers, prefill.layers, strict=True):
            for buffer, states in zip(layer.buffers, (filled.keys, filled.values), strict=True):
                buffer[first:stop, :, end - width : end] = states[:, :, -width:]
        for row, ids in enumerate(prompts, start=first):
            self._tokens[row, : end - len(ids)] = ids[0]  # repeats are harmless to the repetition penalty
            self._tokens[row, end - len(ids) : end] = torch.tensor(ids, device=self._device)
            self._start.append(end - len(ids))

    def push(self, tokens: torch.Tensor) -> None:
        """Note the tokens, shape (n_rows,), that the next forward pass feeds and appends; then call `advance`."""
        if self._end == self.columns:
            self._shift()
        self._tokens[: self.n_rows, self._end] = tokens
        for layer in self._layers:
            layer.window = (self.n_rows, self._low, self._end)

    def advance(self) -> None:
        """Make the column of the last forward pass part of every row."""
        self._end += 1

    def evict(self, rows: Sequence[int]) -> list[int]:
        """Drop rows; the last ones move into the holes.

        Returns:
            The old row number of each row that stays, in the new order.
        """
        gone, n = set(rows), self.n_rows - len(rows)
        movers = iter([row for row in range(n, self.n_rows) if row not in gone])
        order = [next(movers) if row in gone else row for row in range(n)]
        moved = [(new, old) for new, old in enumerate(order) if new != old]
        for new, old in moved:
            for tensor in (*(b for layer in self._layers for b in layer.buffers), self._tokens):
                tensor[new] = tensor[old]
        self._start = [self._start[old] for old in order]
        return order

    def mask(self) -> torch.Tensor:
        """Return which columns each row may see, the coming token included: bool, (n_rows, T)."""
        columns = torch.arange(self._low, self._end + 1, device=self._device)
        return columns >= torch.tensor(self._start, device=self._device)[:, None]

    def positions(self) -> torch.Tensor:
        """Return the position of the coming token in each row: int64, (n_rows, 1)."""
        return self._end - torch.tensor(self._start, device=self._device)[:, None]

    def history(self) -> torch.Tensor:
        """Return the tokens of each row so far, padded with its own first token: int64, (n_rows, T)."""
        return self._tokens[: self.n_rows, self._low : self._end]

    @property
    def _low(self) -> int:
        return min(self._start)

    def _shift(self) -> None:
        low, end, n = self._low, self._end, self.n_rows
        for layer in self._layers:
            for buffer in layer.buffers:
                buffer[:n, :, : end - low] = buffer[:n, :, low:end].clone()
        self._tokens[:n, : end - low] = self._tokens[:n, low:end].clone()
        self._start = [start - low for start in self._start]
        self._end = end - low


def row_bytes(prefill: Cache) -> int:
    """Return how many bytes of keys and values one token of one row takes.

    Example:
        >>> prefill = Cache(layers=[DynamicLayer()])
        >>> _ = prefill.update(torch.ones(2, 1, 3, 4), torch.ones(2, 1, 3, 4), 0)
        >>> row_bytes(prefill)
        32
    """
    tensors = [t for layer in prefill.layers for t in (layer.keys, layer.values)]
    return sum(t.shape[1] * t.shape[3] * t.element_size() for t in tensors)
