"""The transformer's blocks as torch's compiler makes them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from ..errors import CogvxError
from ..text import first_line
from .block import compile_block
from .failures import SpeedUpFailed, is_out_of_memory

MAX_COMPILED_SHAPES = 64
"""Video sizes that one process keeps compiled code for, on each GPU anew; torch's default is 8."""

ROUND_AS_EAGER = {"emulate_precision_casts": True}
"""Inductor options with which compiled code rounds intermediate results as eager code does.

With CogVideoX-5b's shapes in bfloat16, random weights and 49 frames a step on an H100 then differs
by 0.7 % from diffusers instead of 2.5 %, and takes 2 % longer. diffusers itself differs by 2.3 %
from float32 (``benchmarks/equality.py --random``)."""


class CompileToggle:
    """A block's forward, compiled or eager; hooks that wrap it later needn't know which.

    Compiled code that fails raises SpeedUpFailed, whenever it does so: a block is compiled again
    for another shape. torch would run it eagerly instead where its variables say so, or where it
    has compiled too many shapes, and a plan would record what wasn't done.

    Args:
        exact: whether compiled code rounds as eager code does.
    """

    def __init__(self, block: torch.nn.Module, exact: bool) -> None:
        self._block, self._eager = block, block.forward
        self._compiled: dict[Callable, Callable] = {}
        self._off = False
        self._used: Callable | None = None
        self._batches: tuple[int, ...] = ()
        self._options = ROUND_AS_EAGER if exact else {}

    def enable(
        self, compiled: bool, joined_tokens: bool = False, batches: tuple[int, ...] = ()
    ) -> None:
        """Run compiled or eager code from now on; compilation happens at the first call.

        Args:
            joined_tokens: compile the block of ``pipeline.block``, not that of diffusers.
            batches: numbers of clips for which it is compiled code, all if empty.
        """
        self._used, self._batches = None, batches
        if compiled and joined_tokens:
            self._used = compile_block(self._block, self._compile)
        elif compiled:
            self._used = self._compile(self._eager)

    def replace(self, make: Callable[[Callable], Callable]) -> None:
        """Run another forward in place of compiled code, if that is on.

        Args:
            make: makes the forward, with a function that compiles another.
        """
        if self._used is not None:
            self._used = make(self._compile)

    def _compile(self, function: Callable) -> Callable:
        if function not in self._compiled:
            compiled = torch.compile(function, dynamic=False, options=self._options)
            self._compiled[function], self._off = compiled, compiled is function
        return self._compiled[function]

    def __call__(self, *args, **kwargs):
        if self._used is None:
            return self._eager(*args, **kwargs)
        if self._batches and len(kwargs["hidden_states"]) not in self._batches:
            return self._eager(*args, **kwargs)
        if self._off or torch._dynamo.config.disable:
            raise SpeedUpFailed("compiled", "a variable of torch switches its compiler off")
        _configure_thread()
        try:
            return self._used(*args, **kwargs)
        except (CogvxError, threading.BrokenBarrierError):  # of what runs within
            raise
        except Exception as error:  # of the compiler, its toolchain or the code that it made
            if is_out_of_memory(error):
                raise
            raise SpeedUpFailed("compiled", first_line(error)) from None


def _configure_thread() -> None:
    """Settings of torch's compiler, which from torch 2.12 on are those of a thread."""
    config = torch._dynamo.config
    if config.recompile_limit != MAX_COMPILED_SHAPES:
        config.recompile_limit = MAX_COMPILED_SHAPES
        config.suppress_errors, config.fail_on_recompile_limit_hit = False, True


def wrap_blocks(transformer: torch.nn.Module, exact: bool) -> None:
    """Give each block a ``CompileToggle``, off; before any offload hook is installed."""
    for block in transformer.transformer_blocks:
        block.forward = block.compile_toggle = CompileToggle(block, exact)


def enable_compiled(
    transformer: torch.nn.Module,
    compiled: bool,
    joined_tokens: bool = False,
    batches: tuple[int, ...] = (),
) -> None:
    """Run all blocks compiled or eager from now on; see ``CompileToggle.enable``."""
    for block in transformer.transformer_blocks:
        block.compile_toggle.enable(compiled, joined_tokens, batches)
