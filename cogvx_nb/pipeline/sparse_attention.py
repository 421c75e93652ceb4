"""Attention that leaves out blocks of keys which its queries hardly see.

A transformer's ``SparseAttention`` holds the masks of its layers while a video is denoised, and
puts its tokens in ``compact_order``. ``sparse_attention`` is called by the layers, compiled into
their blocks or not, and finds its masks by ``Attention.mask_slot``.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .block_masks import LOW_SIMILARITY, SHARE, Blocks, block_lists, kept_blocks, token_mask
from .token_order import compact_order, inverse

BLOCKS = {9: Blocks(192, 128, 32, 64), 10: Blocks(256, 128, 32, 64)}
"""Queries and keys of a block by the GPU's major compute capability: the tiles of FlashAttention 4
at a head width of 64 (``flash_attn.cute.interface._tile_size_fwd_sm90``; two tiles of 128 on
Blackwell). On an H100 blocks of 128 × 128 take 1.15 as long."""

DENSE_TIMESTEPS = 750
"""Timesteps, of 0 … 999, from which on attention is whole: a quarter of the steps from noise. They
decide a clip's layout."""

REFRESH_TIMESTEPS = 80
"""Change of the timestep after which a mask is made again: 4 of 50 steps."""

_layers: weakref.WeakValueDictionary[int, Layer] = weakref.WeakValueDictionary()
_slots = itertools.count(1)


class Layer:
    """One layer's mask, and how much it kept.

    Args:
        of: what it is a layer of.
    """

    def __init__(self, of: SparseAttention) -> None:
        self.of = of
        self.lists: tuple[Tensor, Tensor] | None = None
        self.mask: Tensor | None = None  # the same as bool, for the reference
        self.made_for: tuple | None = None
        self.share: Tensor | float = 1.0
        self.shares, self.calls = 0.0, 0

    def attend(self, query: Tensor, key: Tensor, value: Tensor, text: int) -> Tensor:
        """Attention by the mask of this step, made first where there is none or it is old."""
        self.calls += 1
        if self.of.timestep >= DENSE_TIMESTEPS:
            self.shares = self.shares + 1.0
            return dense_attention(query, key, value)
        if self._is_old(query):
            self._refresh(query, key, text)
        self.shares = self.shares + self.share
        if query.is_cuda:
            lists = (self._rows(part) for part in self.lists)
            return flash4_by_blocks(query, key, value, *lists, self.of.blocks)
        return reference_by_blocks(query, key, value, self._rows(self.mask), self.of.blocks)

    def _rows(self, made: Tensor) -> Tensor:
        """Those of this step's texts: a step cache leaves one out at times."""
        texts = self.made_for[0]
        if texts == self.of.texts:
            return made
        return made[[texts.index(text) for text in self.of.texts]]

    def _is_old(self, query: Tensor) -> bool:
        if self.made_for is None:
            return True
        texts, tokens, timestep = self.made_for
        other = tokens != query.shape[1] or not set(self.of.texts) <= set(texts)
        return other or abs(timestep - self.of.timestep) >= REFRESH_TIMESTEPS

    def _refresh(self, query: Tensor, key: Tensor, text: int) -> None:
        kept = kept_blocks(query, key, self.of.blocks, text, self.of.share, self.of.similarity)
        self.made_for = self.of.texts, query.shape[1], self.of.timestep
        self.share = kept.mean(dtype=torch.float32)
        self.lists, self.mask = (block_lists(kept), None) if query.is_cuda else (None, kept)

    def free(self) -> None:
        """Forget the mask, not how much it kept."""
        self.lists = self.mask = self.made_for = None


class SparseAttention:
    """The masks and the order of tokens of a transformer, from now until ``remove``.

    Args:
        share, similarity: see ``block_masks.kept_blocks``.
    """

    def __init__(
        self,
        transformer: torch.nn.Module,
        blocks: Blocks,
        share: float = SHARE,
        similarity: float = LOW_SIMILARITY,
    ) -> None:
        self.blocks, self.share, self.similarity = blocks, share, similarity
        self.timestep, self.texts = 0.0, ()
        self._order: tuple[Tensor, Tensor] | None = None
        self._text = 0
        self._layers = [self._add_layer(block.attn1) for block in transformer.transformer_blocks]
        self._hooks = [
            transformer.register_forward_pre_hook(self._before_step, with_kwargs=True),
            transformer.patch_embed.register_forward_hook(self._put_in_order),
            transformer.norm_final.register_forward_pre_hook(self._put_back),
        ]

    def remove(self) -> None:
        """Leave the transformer as it was, apart from its processors."""
        for hook in self._hooks:
            hook.remove()
        self._layers.clear()

    @property
    def kept_share(self) -> float:
        """Part of the attention that was computed, over all layers and steps so far."""
        calls = sum(layer.calls for layer in self._layers)
        return float(sum(layer.shares for layer in self._layers)) / calls if calls else 1.0

    def free(self) -> None:
        """Free the masks: the next step makes new ones."""
        for layer in self._layers:
            layer.free()

    def _add_layer(self, attn: torch.nn.Module) -> Layer:
        # A tensor, on the CPU whatever the layer is on: compiled code is the same for all layers.
        attn.mask_slot = torch.tensor(next(_slots))
        _layers[int(attn.mask_slot)] = layer = Layer(self)
        return layer

    def _before_step(self, transformer: torch.nn.Module, args: tuple, given: dict):
        latents = given["hidden_states"]
        self.timestep = float(given["timestep"].flatten()[0])
        text = given["encoder_hidden_states"]
        self._text = text.shape[1]
        self.texts = tuple(
            round(each, 3) for each in text.sum((1, 2), dtype=torch.float64).tolist()
        )
        config = transformer.config
        sizes = (
            latents.shape[1] // (config.patch_size_t or 1),
            latents.shape[3] // config.patch_size,
            latents.shape[4] // config.patch_size,
        )
        order = compact_order(*sizes, self.blocks.queries)
        self._order = tuple(one.to(latents.device) for one in (order, inverse(order)))
        if (rotary := given.get("image_rotary_emb")) is not None:
            given["image_rotary_emb"] = tuple(table[self._order[0]] for table in rotary)
        return args, given

    def _put_in_order(self, embed: torch.nn.Module, args: tuple, tokens: Tensor) -> Tensor:
        text, clip = tokens[:, : self._text], tokens[:, self._text :]
        return torch.cat([text, clip[:, self._order[0]]], 1)

    def _put_back(self, norm: torch.nn.Module, args: tuple[Tensor]) -> Tensor:
        return args[0][:, self._order[1]]


def set_sparse_attention(transformer: torch.nn.Module, sparse: bool) -> None:
    """Begin a video with sparse attention, or without."""
    if (former := getattr(transformer, "sparse_attention", None)) is not None:
        former.remove()
    transformer.sparse_attention = None
    if sparse:
        transformer.sparse_attention = SparseAttention(transformer, kernel_blocks())


def attention_share(transformers: Sequence[torch.nn.Module]) -> float:
    """Part of the attention of some copies that was computed for the last video."""
    sparse = [getattr(each, "sparse_attention", None) for each in transformers]
    return sum(each.kept_share if each else 1.0 for each in sparse) / len(sparse)


def free_masks(transformers: Sequence[torch.nn.Module]) -> None:
    """Free what a video's masks take."""
    for each in transformers:
        if sparse := getattr(each, "sparse_attention", None):
            sparse.free()


def add_slots(transformer: torch.nn.Module) -> None:
    """Give each layer a slot for a mask, empty so far."""
    for block in transformer.transformer_blocks:
        block.attn1.mask_slot = torch.tensor(0)


def kernel_blocks() -> Blocks:
    """Those of this machine's kernel."""
    major = torch.cuda.get_device_capability()[0] if torch.cuda.is_available() else 0
    return BLOCKS.get(major, BLOCKS[9])


@torch.library.custom_op("cogvx_nb::sparse_attention", mutates_args=())
def sparse_attention(query: Tensor, key: Tensor, value: Tensor, slot: Tensor, text: int) -> Tensor:
    """Attention of (batch, tokens, heads, head width), whole outside of ``SparseAttention``.

    Args:
        slot: number of the layer, int64 (), on the CPU.
        text: tokens of text, which come first.
    """
    layer = _layers.get(int(slot))
    if layer is None:
        return dense_attention(query, key, value)
    return layer.attend(query, key, value, text)


@sparse_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, slot: Tensor, text: int) -> Tensor:
    return query.new_empty(query.shape)


def dense_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """All of it, by FlashAttention 4 on a GPU."""
    if not query.is_cuda:
        return _stock(query, key, value)
    from flash_attn.cute import flash_attn_func

    return flash_attn_func(query, key, value)[0]


def try_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by blocks with all of them kept, to see whether the kernel works here."""
    blocks = kernel_blocks()
    kept = kept_blocks(query, key, blocks, text=0, share=1)
    if query.is_cuda:
        return flash4_by_blocks(query, key, value, *block_lists(kept), blocks)
    return reference_by_blocks(query, key, value, kept, blocks)


def flash4_by_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    counts: Tensor,
    order: Tensor,
    blocks: Blocks,
) -> Tensor:
    """FlashAttention 4 of the pairs in ``block_masks.block_lists``."""
    from flash_attn.cute import flash_attn_func
    from flash_attn.cute.block_sparsity import BlockSparseTensorsTorch

    order = order.to(torch.int32)
    lists = BlockSparseTensorsTorch(
        mask_block_cnt=torch.zeros_like(counts),
        mask_block_idx=order,
        full_block_cnt=counts,
        full_block_idx=order,
        block_size=(blocks.queries, blocks.keys),
    )
    return flash_attn_func(query, key, value, block_sparse_tensors=lists)[0]


def reference_by_blocks(
    query: Tensor, key: Tensor, value: Tensor, kept: Tensor, blocks: Blocks
) -> Tensor:
    """The same by torch, of ``block_masks.kept_blocks``."""
    return _stock(query, key, value, token_mask(kept, blocks, query.shape[1]))


def _stock(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    parts = (part.transpose(1, 2) for part in (query, key, value))
    return scaled_dot_product_attention(*parts, attn_mask=mask).transpose(1, 2).contiguous()
