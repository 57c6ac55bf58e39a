"""Key-value slots: rows come with a prompt that was read, grow by a token a step, and leave.

Rows lie in blocks of neighbours. They come longest prompt first, so each block is as wide as its first row needs, and
any later row fits wherever a row has left. A row that leaves is replaced by the last one: what runs is always the
first n rows. Nothing is read back from the device: lengths are known here as well as there.
Not covered: paged memory, sharing of a prompt's columns between rows, offloading.
Source: Yu et al. 2022 (Orca) for replacing finished rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from pytest_collabcode.generation.block import Block, row_bytes
from pytest_collabcode.generation.decoders.decoder import Decoder, Prefill
from pytest_collabcode.generation.graphs import Graphs

BLOCK_ROWS = 8  # few enough that short rows do not pay for long ones, enough to keep calls few


class Slots:
    """The rows of a running batch: keys, values and the tokens that they hold.

    Args:
        decoder: the model family.
        rows: the largest batch.
        new_tokens: that each row may get.
        block_rows: neighbours in one buffer; on a GPU all rows are.
    Example:
        >>> from pytest_collabcode.generation.decoders import own_decoder
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> decoder = own_decoder(build(recipe("llama-smoke"), 1))
        >>> slots = Slots(decoder, rows=4, new_tokens=5)
        >>> slots.admit(decoder.read([[7, 8, 9], [5]]), [0, 0, 1])  # two samples of the first prompt
        >>> logits = slots.step(torch.tensor([1, 2, 3]))
        >>> tuple(logits.shape), slots.evict([0]), slots.history().tolist()
        ((3, 512), [2, 1], [[5, 3, 5, 5], [7, 8, 9, 2]])
        >>> slots.clear(), slots.n_rows, slots.takes(4, 3, 5), slots.takes(4, 4, 5)
        (None, 0, True, False)
    """

    def __init__(self, decoder: Decoder, *, rows: int, new_tokens: int, block_rows: int = BLOCK_ROWS) -> None:
        self.capacity, self.new_tokens = rows, new_tokens
        self._decoder = decoder
        self._on_gpu = decoder.device.type == "cuda"
        self._block_rows = rows if self._on_gpu else block_rows
        self._blocks: list[Block] = []
        self._open: list[Block] = []  # those that take part in the present step
        self._lengths: list[int] = []  # tokens that each living row holds
        self._ends = torch.zeros(rows, dtype=torch.int64, device=decoder.device)  # the same, for the device
        self._fed = torch.zeros(rows, dtype=torch.int64, device=decoder.device)
        self._numbers = torch.arange(rows, device=decoder.device)
        self._tokens = self._fed.new_zeros(rows, 0)
        self._longest = 0  # tokens of the first prompt, for which the buffers were made
        self._graphs = Graphs(self._forward, decoder.device) if self._on_gpu else None

    @property
    def n_rows(self) -> int:
        """Rows in use; they are the first ones."""
        return len(self._lengths)

    def admit(self, prefill: Prefill, places: Sequence[int]) -> None:
        """Append a row for each place, a number of one of the prompts that were read.

        Args:
            prefill: none of its prompts longer than those before.
            places: repeated for further samples of a prompt.
        """
        first = row = self.n_rows
        for place, same in groupby(places):
            ids, end = prefill.tokens[place], row + len(list(same))
            self._lengths += [len(ids)] * (end - row)
            if not self._tokens.shape[1]:
                self._tokens = self._fed.new_zeros(self.capacity, len(ids) + self.new_tokens)
                self._longest = prefill.source.lengths[place] if prefill.source else len(ids)
            self._tokens[row:end] = ids[0]  # repeats are harmless to the repetition penalty
            self._tokens[row:end, : len(ids)] = torch.tensor(ids, device=self._fed.device)
            while row < end:
                block = self._block_of(row, prefill, place)
                here = slice(row - block.first, min(end - block.first, block.rows))
                block.fill(here, prefill, place)
                row = block.first + here.stop
        self._ends[first : self.n_rows] = torch.tensor(self._lengths[first:], device=self._ends.device)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Feed each row its newest token, (n_rows,), and return the logits of the next, (n_rows, V)."""
        n, ends = self.n_rows, self._ends[: self.n_rows]
        self._fed[:n] = tokens
        self._tokens[self._numbers[:n], ends] = tokens
        if self._graphs is None:
            logits = self._forward(n, 0)
        else:
            logits = self._graphs(n, max(self._lengths) + 1, limits=(self.capacity, self._blocks[0].columns))
        ends += 1
        self._lengths = [length + 1 for length in self._lengths]
        return logits[:n]

    def evict(self, rows: Sequence[int]) -> list[int]:
        """Drop rows; the last ones move into the holes.

        Returns:
            The old row number of each row that stays, in the new order.
        """
        gone, n = set(rows), self.n_rows - len(rows)
        movers = iter([row for row in range(n, self.n_rows) if row not in gone])
        order = [next(movers) if row in gone else row for row in range(n)]
        for new, old in enumerate(order):
            if new != old:
                to, out_of = self._blocks[new // self._block_rows], self._blocks[old // self._block_rows]
                to.copy_row(new - to.first, out_of, old - out_of.first)
                self._tokens[new], self._ends[new] = self._tokens[old], self._ends[old]
        self._ends[n:] = 0
        self._lengths = [self._lengths[old] for old in order]
        return order

    def takes(self, rows: int, longest: int, new_tokens: int) -> bool:
        """Return whether, once cleared, it holds so many rows of prompts up to so many tokens, and new ones."""
        return rows <= self.capacity and longest <= self._longest and new_tokens <= self.new_tokens

    def clear(self) -> None:
        """Drop all rows; buffers and recorded steps stay for the next."""
        self._lengths = []
        self._ends.zero_()

    def let_go(self) -> None:
        """Drop the recorded steps, which hold on to these rows: else they wait for the garbage collector."""
        self._graphs = None

    def history(self) -> torch.Tensor:
        """Return the tokens of each row so far, padded with its own first token: int64, (n_rows, T)."""
        return self._tokens[: self.n_rows, : max(self._lengths)]

    def own(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """See `Attention`: what one new token of each open row finds in its row."""
        return _stacked([b.own(layer, q[b.span], k[b.span], v[b.span]) for b in self._open])

    def source(self, layer: int, q: torch.Tensor) -> torch.Tensor:
        """See `Attention`: what one new token of each open row finds in its source."""
        return _stacked([b.source(layer, q[b.span]) for b in self._open])

    def _forward(self, n: int, width: int) -> torch.Tensor:
        """Return the logits of the first n rows, (n, V), each fed its token of `_fed`.

        With a width everything is masked to it and depends on device tensors alone, as a CUDA graph wants it; else
        each block is as wide as its rows are now.
        """
        self._open = [block for block in self._blocks if block.first < n]
        for block in self._open:
            lengths = self._lengths[block.first : min(block.first + block.rows, n)]
            if width:
                block.open(min(block.rows, n), width, masked=True)
            else:
                block.open(len(lengths), max(lengths) + 1, masked=len(set(lengths)) > 1)
        return self._decoder.logits(self._decoder.hidden(self._fed[:n], self._ends[:n], self))

    def _block_of(self, row: int, prefill: Prefill, place: int) -> Block:
        number = row // self._block_rows
        if number == len(self._blocks):
            first = number * self._block_rows
            rows = min(self._block_rows, self.capacity - first)
            self._blocks.append(
                Block(
                    self._decoder,
                    first,
                    rows=rows,
                    columns=len(prefill.tokens[place]) + self.new_tokens,
                    source_columns=prefill.source.lengths[place] if prefill.source else 0,
                    ends=self._ends[first : first + rows],
                )
            )
        return self._blocks[number]


def affordable_rows(decoder: Decoder, needs: Sequence[int], n_bytes: int) -> int:
    """Return how many rows fit into a memory, at least one.

    Args:
        decoder: the model family.
        needs: tokens that each row will hold, sources included, the longest first.
        n_bytes: for keys and values.
    Example:
        >>> from pytest_collabcode.generation.decoders import own_decoder
        >>> from pytest_collabcode.models.architectures import build
        >>> from pytest_collabcode.training.recipes import recipe
        >>> decoder = own_decoder(build(recipe("llama-smoke"), 1))  # half a KB a token
        >>> affordable_rows(decoder, [100] * 8 + [50] * 8, 1 << 19), affordable_rows(decoder, [100] * 8, 1)
        (12, 1)
    """
    left, rows = n_bytes, 0
    block_rows = len(needs) if decoder.device.type == "cuda" else BLOCK_ROWS
    for first in range(0, len(needs), block_rows):
        here = min(block_rows, len(needs) - first)
        fitting = min(here, left // row_bytes(decoder, needs[first]))
        rows, left = rows + fitting, left - fitting * row_bytes(decoder, needs[first])
        if fitting < here:
            break
    return max(1, rows)


def _stacked(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
