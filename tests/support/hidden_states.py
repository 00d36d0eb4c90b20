"""What reaches each block of a model: by transformers' own forward pass, and by ours."""

from __future__ import annotations

from torch import Tensor, nn

from maps_engine.model import Residuals, Texts


def hidden_states(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """What reaches each block (b, n, d) in the whole model, and what leaves the last one."""
    blocks = next(one for one in model.modules() if isinstance(one, nn.ModuleList))
    seen: list[Tensor] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    blocks[-1].register_forward_hook(lambda *args: seen.append(args[-1]))
    model(input_ids=ids)
    return [one[0] if isinstance(one, tuple) else one for one in seen]


def passed(stream: Residuals | Texts, n_layers: int) -> list[Tensor]:
    """The same of a stream that is let through block by block."""
    found = []
    for layer in range(n_layers):
        assert stream.layer == layer
        found.append(stream.rows.clone())
        stream.advance()
    return [*found, stream.rows]
