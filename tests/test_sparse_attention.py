"""Sparse attention: its order of tokens, its masks, and how far it is from all of it."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import pytest
import torch
from conftest import CIRCLE
from torch._dynamo.testing import CompileCounter

from cogvx_nb.pipeline import attention, compilation, generate, loader, sparse_attention
from cogvx_nb.pipeline.block_masks import Blocks, block_lists, kept_blocks, token_mask
from cogvx_nb.pipeline.failures import SpeedUpFailed
from cogvx_nb.pipeline.positions import rotary_positions
from cogvx_nb.pipeline.sparse_attention import SparseAttention
from cogvx_nb.pipeline.token_order import compact_order, inverse
from cogvx_nb.planning import planner, request
from cogvx_nb.results import records, result

SMALL = Blocks(24, 16, 4, 8)
TEXT = 10


def tokens(count: int = 130, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Query, key and value of a clip whose neighbours are alike, (2, count, 3, 8)."""
    noise = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(2, count, 3, 8, generator=noise) for _ in range(3))
    query, key, value = (part.cumsum(1) / 3 for part in drawn)
    return query, key, value


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (torch.norm(a - b) / torch.norm(b)).item()


@pytest.mark.parametrize("sizes", [(13, 30, 45), (4, 6, 9), (1, 7, 5), (21, 48, 85)])
def test_order_is_a_permutation_of_compact_blocks(sizes):
    order = compact_order(*sizes, 192)
    assert torch.equal(order.sort().values, torch.arange(len(order)))
    assert torch.equal(order[inverse(order)], torch.arange(len(order)))

    def spread(order: torch.Tensor) -> float:
        places = torch.stack(torch.unravel_index(order, sizes), 1).double()
        blocks = places.split(192)
        return sum(((part - part.mean(0)) ** 2).sum().item() for part in blocks) / len(order)

    plain = spread(torch.arange(len(order)))
    assert spread(order) < (0.1 if len(order) > 5000 else 1.0001) * plain


def test_masks_keep_the_fewest_blocks_that_have_the_share():
    query, key, _ = tokens()
    kept = kept_blocks(query, key, SMALL, TEXT, share=0.7, similarity=-1)
    again = kept_blocks(query.clone(), key.clone(), SMALL, TEXT, share=0.7, similarity=-1)
    assert torch.equal(kept, again)
    assert kept.shape == (2, 3, 6, 9)
    assert kept[:, :, 0].all(), "queries of text see everything"
    assert kept[..., 0].all(), "everything sees text"
    for row in range(6):
        assert kept[:, :, row, row * 24 // 16].all(), "and its own place"
    whole = Blocks(24, 16, 24, 16)  # where the rule can be written down
    kept = kept_blocks(query, key, whole, 0, share=0.7, similarity=-1)
    queries = torch.stack([part.mean(1) for part in query.split(24, 1)], 2)
    keys = torch.stack([part.mean(1) for part in key.split(16, 1)], 2)
    mass = (queries @ keys.mT * 8**-0.5).softmax(-1)
    for row in range(6):
        own = [n for n in range(9) if n * 16 < row * 24 + 24 and row * 24 < n * 16 + 16]
        values, order = mass[0, 0, row].sort(descending=True)
        fewest = int((values.cumsum(0) < 0.7).sum()) + 1
        expected = set(order[:fewest].tolist()) | set(own)
        assert set(kept[0, 0, row].nonzero().flatten().tolist()) == expected


def test_blocks_that_their_means_say_little_of_are_kept():
    query, key, _ = tokens()
    opposite = torch.tensor([9.0, -9.0]).repeat(12)[:, None, None]
    key[:, 96:112] = key.mean(1, keepdim=True) + opposite[:16]
    query[:, 48:72] = opposite
    never = kept_blocks(query, key, SMALL, TEXT, share=0.2, similarity=-1)
    kept = kept_blocks(query, key, SMALL, TEXT, share=0.2, similarity=0.3)
    assert kept[..., 6].all()
    assert not never[..., 6].all()
    assert kept[:, :, 2].all()
    assert not never[:, :, 2].all()


def test_lists_are_ascending_and_say_what_the_mask_says():
    kept = kept_blocks(*tokens()[:2], SMALL, TEXT, share=0.5)
    counts, order = block_lists(kept)
    assert (counts.dtype, order.dtype) == (torch.int32, torch.int16)
    for mask, count, listed in zip(
        kept.flatten(0, 2), counts.flatten(), order.flatten(0, 2), strict=True
    ):
        assert listed[:count].tolist() == mask.nonzero().flatten().tolist()


def test_distance_falls_with_what_is_kept():
    query, key, value = tokens(400)
    whole = sparse_attention.dense_attention(query, key, value)
    found = []
    for share in (0.3, 0.6, 0.9, 0.99, 1):
        kept = kept_blocks(query, key, SMALL, TEXT, share, similarity=-1)
        ours = sparse_attention.reference_by_blocks(query, key, value, kept, SMALL)
        found.append((kept.float().mean().item(), distance(ours, whole)))
    assert found == sorted(found, key=lambda pair: (pair[0], -pair[1])), "more kept, nearer"
    assert found[0][0] < 0.5
    assert found[2][1] < 0.1
    assert found[-1][0] == 1
    assert found[-1][1] < 1e-6


def test_the_reference_leaves_out_what_the_mask_does():
    query, key, value = tokens(100)
    kept = kept_blocks(query, key, SMALL, TEXT, share=0.4)
    mask = token_mask(kept, SMALL, 100)
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * 8**-0.5
    expected = torch.einsum(
        "bhqk,bkhd->bqhd", scores.masked_fill(~mask, -torch.inf).softmax(-1), value
    )
    ours = sparse_attention.reference_by_blocks(query, key, value, kept, SMALL)
    assert torch.allclose(ours, expected, atol=1e-5)


KINDS = {
    "rotary": {"use_rotary_positional_embeddings": True},
    "sines": {},
    "learned": {
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": True,
    },
    "whole patches": {
        "use_rotary_positional_embeddings": True,
        "patch_size_t": 2,
        "patch_bias": False,
        "ofs_embed_dim": 16,
    },
}
"""Settings of each kind of transformer of the family."""


class Small:
    """A transformer of random weights, and one step of it."""

    def __init__(self, **settings) -> None:
        torch.manual_seed(0)
        self.transformer = diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=32,
            in_channels=4,
            out_channels=4,
            time_embed_dim=16,
            text_embed_dim=24,
            num_layers=3,
            sample_width=16,
            sample_height=12,
            sample_frames=29,
            max_text_seq_length=TEXT,
            **settings,
        ).eval()
        self.latents = torch.randn(2, 8, 4, 12, 16)
        self.text = torch.randn(2, TEXT, 24)
        compilation.wrap_blocks(self.transformer, exact=True)

    def sparse(self, **settings) -> SparseAttention:
        attention.set_attention(self.transformer, "sdpa", False, sparse=True)
        return SparseAttention(self.transformer, SMALL, **settings)

    def step(self, timestep: int = 300, rows: slice = slice(2)) -> torch.Tensor:
        config = self.transformer.config
        with torch.no_grad():
            return self.transformer(
                hidden_states=self.latents[rows],
                encoder_hidden_states=self.text[rows],
                timestep=torch.full((len(self.text[rows]),), timestep),
                ofs=torch.full((1,), 2.0) if config.ofs_embed_dim else None,
                image_rotary_emb=rotary_positions(config, 8, 12, 16, "cpu"),
                return_dict=False,
            )[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_transformer_is_itself_where_everything_is_kept(kind):
    small = Small(**KINDS[kind])
    stock = small.step()
    sparse = small.sparse(share=1)
    assert distance(small.step(), stock) < 1e-5
    assert sparse.kept_share == 1
    sparse.remove()
    other = small.sparse(share=0.3, similarity=-1)
    assert 1e-4 < distance(small.step(), stock) < 0.5
    assert other.kept_share < 0.9
    other.remove()
    attention.set_attention(small.transformer, "sdpa", False)
    assert torch.equal(small.step(), stock), "and nothing is left of it"


def test_early_steps_are_whole_and_masks_last_a_few():
    small = Small(**KINDS["rotary"])
    stock = {timestep: small.step(timestep) for timestep in (999, 750)}
    sparse = small.sparse(share=0.3, similarity=-1)
    for timestep, expected in stock.items():
        assert distance(small.step(timestep), expected) < 1e-5
    assert sparse.kept_share == 1
    masks = []
    for timestep in (740, 700, 661, 660, 600, 580):
        small.step(timestep)
        masks.append(sparse._layers[0].mask)
    assert masks[0] is masks[1] is masks[2]
    assert masks[3] is masks[4] is not masks[2]
    assert masks[5] is not masks[4]
    both, made = small.step(580), sparse._layers[0].mask
    for rows in (slice(0, 1), slice(1, 2)):
        assert distance(small.step(580, rows), both[rows]) < 1e-5
    assert sparse._layers[0].mask is made, "a clip alone has the mask that it has among two"
    small.text = small.text + 1
    small.step(580)
    assert sparse._layers[0].mask is not made, "and another text one of its own"
    share = sparse.kept_share
    assert 0.2 < share < 1
    sparse.free()
    assert sparse._layers[0].mask is None
    assert sparse.kept_share == share


def test_two_transformers_have_their_own_masks():
    one, two = Small(**KINDS["rotary"]), Small(**KINDS["rotary"])
    two.latents = two.latents.flip(1)
    alone = []
    for small in (one, two):
        sparse = small.sparse(share=0.3, similarity=-1)
        alone.append(small.step())
        sparse.remove()
    kept = [small.sparse(share=0.3, similarity=-1) for small in (one, two)]
    for _ in range(2):
        for small, expected in zip((one, two), alone, strict=True):
            assert torch.equal(small.step(), expected)
    assert not torch.equal(kept[0]._layers[0].mask, kept[1]._layers[0].mask)


def test_all_layers_and_steps_share_compiled_code():
    small = Small(**KINDS["rotary"])
    sparse = small.sparse(share=0.3, similarity=-1)
    eager = {timestep: small.step(timestep) for timestep in (999, 300)}
    sparse.remove()
    attention.set_attention(small.transformer, "sdpa", True, sparse=True)
    counter = CompileCounter()
    for block in small.transformer.transformer_blocks:
        toggle = block.compile_toggle
        compiled = torch.compile(toggle._eager, dynamic=False, backend=counter)
        toggle._compiled[toggle._eager] = compiled
        toggle.enable(True)
    small.step()  # before a video
    compiled = counter.frame_count
    assert compiled < 3, "the first block's tokens lie otherwise in memory"
    for _ in range(2):  # videos
        sparse = SparseAttention(small.transformer, SMALL, share=0.3, similarity=-1)
        for timestep, expected in eager.items():
            assert distance(small.step(timestep), expected) < 1e-5
        assert sparse.kept_share < 1
        sparse.remove()
    assert counter.frame_count == compiled


def test_a_video_records_it(tiny, here, tmp_path, monkeypatch):
    monkeypatch.setattr(sparse_attention, "kernel_blocks", lambda: SMALL)
    video = request.make_request(tiny, CIRCLE, frames=9, steps=2)
    plan = planner.plan_request(video, here)
    loaded = loader.load_pipeline(replace(plan, sparse_attention=True))
    first = generate.generate_frames(video, loaded)
    assert 0.5 < first.attention_share < 1
    assert loaded.pipe.transformer.sparse_attention._layers[0].mask is None, "masks are freed"
    made = result.save_result(first, tmp_path / "one.mp4")
    sidecar = result.read_result(made.path).settings
    assert sidecar.attention_share == round(first.attention_share, 4)
    assert sidecar.plan.sparse_attention is True
    content = sidecar.as_json()
    del content["attention_share"], content["plan"]["sparse_attention"]
    old = records.read_settings(content)
    assert old.attention_share == 1
    assert not old.plan.sparse_attention
    whole = loader.load_pipeline(plan)
    whole.prepare()
    assert sparse_attention.attention_share([whole.pipe.transformer]) == 1
    loader.release_pipeline()


def test_a_kernel_that_fails_is_left_out(tiny, here, monkeypatch):
    plan = planner.plan_request(request.make_request(tiny, CIRCLE, frames=9, steps=2), here)

    def fail(*_):
        raise RuntimeError("tile sizes\nof blocks")

    monkeypatch.setattr(sparse_attention, "reference_by_blocks", fail)
    loaded = loader.load_pipeline(replace(plan, sparse_attention=True))
    assert not loaded.plan.sparse_attention
    assert loaded.plan.reasons[-1] == "sparse attention failed: tile sizes"
    loader.release_pipeline()
    with pytest.raises(SpeedUpFailed, match=r"^tile sizes$"):
        attention.try_attention(replace(plan, sparse_attention=True))
