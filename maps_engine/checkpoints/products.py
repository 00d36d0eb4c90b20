"""Matrix products in float32 by the faster of two libraries.

PyTorch multiplies float32 on a CPU with MKL; on processors that MKL was not written for, oneDNN, which every build of
PyTorch for x86 carries too, is faster at the same arithmetic (measured on AMD processors: 35 against 33 GFLOP/s on one
core, 204 against 144 on many). Tensors in its layout are multiplied by it; the copies into and out of that layout cost
less than is gained. It compiles a kernel for every new shape, though: only for products whose shape comes again and
again.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FEWEST_ROWS = 256  # below that the choice does not matter


def linear(x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (…, in) times `matrix` (out, in) transposed, plus `bias` (out)."""
    rows = x.numel() // max(1, x.shape[-1])
    if x.device.type == "cpu" and x.dtype == torch.float32 and rows >= FEWEST_ROWS and _has_onednn():
        own_bias = None if bias is None else bias.to_mkldnn()
        return functional.linear(x.to_mkldnn(), matrix.to_mkldnn(), own_bias).to_dense()
    return functional.linear(x, matrix, bias)


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())
