"""Weights are copied piece by piece, whatever their shape; what has gaps is left to torch."""

from __future__ import annotations

import pytest
import torch

from cogvx_nb.pipeline import transfer


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int8])
@pytest.mark.parametrize("shape", [(), (1,), (7, 3), (5, 4, 3, 2), (64,)])
def test_pieces_make_the_same_tensor(shape, dtype):
    source = torch.randint(-100, 100, shape).to(dtype)
    target, calls = torch.empty_like(source), []
    pieces = [torch.empty(16, dtype=torch.uint8) for _ in range(2)]

    def wait(number: int) -> None:
        calls.append(("wait", number))

    def sent(number: int) -> None:
        calls.append(("sent", number))

    transfer.copy_by_pieces(source, target, pieces, wait, sent)
    assert torch.equal(target, source)
    count = -(-source.nbytes // 16)
    assert calls == [(name, n % 2) for n in range(count) for name in ("wait", "sent")]


def test_what_has_gaps_or_is_no_plain_parameter_is_left_to_torch():
    conv = torch.nn.Conv3d(4, 8, 3).to(memory_format=torch.channels_last_3d)  # as the fast VAE's
    assert not transfer.moves_by_pieces(conv.weight)
    assert transfer.moves_by_pieces(conv.bias)
    assert transfer.moves_by_pieces(torch.nn.Linear(3, 2).weight)
    assert not transfer.moves_by_pieces(torch.nn.Parameter(torch.empty(0, 3)))
    assert not transfer.moves_by_pieces(torch.nn.Parameter(torch.ones(1, 3).expand(4, 3)))
    assert not transfer.moves_by_pieces(torch.nn.Linear(3, 2, device="meta").weight)
    assert not transfer.moves_by_pieces(torch.ones(3))


def test_a_component_moves_to_the_cpu_as_it_is():
    part = torch.nn.Linear(3, 2)
    before = part.weight.data_ptr()
    transfer.move_component(part, "cpu")
    assert part.weight.data_ptr() == before
