"""Embeddings kept on disk: the encoder runs once a prompt, and not a bit differs."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from conftest import CIRCLE

from cogvx_nb.pipeline import embeddings, generate, loader
from cogvx_nb.planning import planner, request


@pytest.fixture
def runs(tiny, here, monkeypatch):
    """Runs a request; returns its frames and how often the encoder ran."""
    loaded = loader.load_pipeline(
        planner.plan_request(request.make_request(tiny, CIRCLE, steps=2), here)
    )
    count, encoder = [], loaded.pipe.text_encoder
    handle = encoder.register_forward_hook(lambda *values: count.append(1))

    def run(reuse_text: bool = True, **values):
        count.clear()
        video = request.make_request(tiny, **{"prompt": CIRCLE, "frames": 9, "steps": 2} | values)
        generated = generate.generate_frames(video, loaded, reuse_text=reuse_text)
        return generated.frames, len(count)

    yield run
    handle.remove()


@pytest.mark.slow
def test_another_seed_needs_no_encoder(runs):
    fresh, count = runs(reuse_text=False)
    assert count == 2, "prompt and negative prompt"
    first, count = runs()
    assert count == 2
    again, count = runs()
    assert count == 0
    assert np.array_equal(fresh, first)
    assert np.array_equal(fresh, again)
    assert runs(seed=7)[1] == runs(frames=25)[1] == 0
    assert runs(prompt="a blue star moving up")[1] == 1, "the negative one is kept"
    assert runs(prompt="a green star moving up", guidance=1.0)[1] == 1


def test_a_damaged_file_is_made_anew(runs):
    runs()
    for path in embeddings.embeddings_folder().iterdir():
        path.write_bytes(b"damaged")
    assert runs()[1] == 2
    assert runs()[1] == 0


def test_a_folder_that_cannot_be_written_costs_only_time(runs, outputs):
    outputs.mkdir()
    embeddings.embeddings_folder().write_text("a file in its place")
    assert runs()[1] == 2
    assert runs()[1] == 2


def test_what_decides_an_embedding_is_in_its_name(tiny, here):
    loaded = loader.load_pipeline(
        planner.plan_request(request.make_request(tiny, CIRCLE, steps=2), here)
    )
    key = loaded.embedding_key(CIRCLE)
    assert key == loaded.embedding_key(CIRCLE)
    assert key != loaded.embedding_key(f"{CIRCLE} ")
    name = next(name for name in loaded.hashes if name.startswith("text_encoder/"))
    other = {name: "another"}
    changed = loader.Loaded(loaded.pipe, loaded.plan, loaded.hashes | other)
    assert key != changed.embedding_key(CIRCLE)
    transformer = next(name for name in loaded.hashes if name.startswith("transformer/"))
    same = loader.Loaded(loaded.pipe, loaded.plan, loaded.hashes | {transformer: "another"})
    assert key == same.embedding_key(CIRCLE)


def test_the_oldest_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "MOST_EMBEDDINGS", 2)
    for number in range(4):
        path = tmp_path / f"{number}.safetensors"
        embeddings.store_embedding(path, torch.zeros(1, 2, 3))
        os.utime(path, (number, number))  # two could be of one moment
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.safetensors", "3.safetensors"]
