"""Full names of the tensors that the maps of one checkpoint need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maps_engine.checkpoints.families.record import Family, Linear
from maps_engine.checkpoints.families.settings import Settings
from maps_engine.checkpoints.formats.tensor_source import missing_tensors


@dataclass(frozen=True)
class TensorNames:
    """Names with the prefix that this checkpoint happens to use ("model.", "transformer.", none…)."""

    settings: Settings
    prefix: str
    embedding: str
    unembedding: str

    @classmethod
    def found_in(cls, settings: Settings, held: frozenset[str]) -> TensorNames:
        """Find prefix and unembedding. Raises BrokenCheckpoint listing every needed tensor that is not held."""
        record = settings.family
        prefix = _prefix(record, held)
        embedding = f"{prefix}{record.embedding}.weight"
        unembedding = embedding if settings.flag(record.tied) else _first_held(record.unembedding, held)
        names = cls(settings, prefix, embedding, unembedding)
        missing = [name for name in names.needed() if name not in held]
        if missing:
            raise missing_tensors(missing)
        return names

    def in_block(self, layer: int, name: str) -> str:
        """The full name of `name`, which is relative to the block of `layer`."""
        return self.prefix + self.settings.family.block.format(layer=layer) + name

    def needed(self) -> Iterator[str]:
        """All tensors that some map of this model can need."""
        record = self.settings.family
        yield self.embedding
        yield self.unembedding
        yield from (f"{self.prefix}{name}.weight" for name in (record.project_in, record.project_out) if name)
        for name in (record.embedding_norm, record.final_norm):
            yield from self._norm(self.prefix + name) if name else ()
        for layer in range(int(self.settings.values[record.sizes.layers])):
            yield from self._block(layer)

    def _block(self, layer: int) -> Iterator[str]:
        record = self.settings.family
        parts: tuple[Linear, ...] = (record.value, record.output)
        norms: tuple[str | None, ...] = (record.attention_norm, record.post_attention_norm)
        if layer == 0 and record.mlp is not None:
            parts += record.mlp.linears
            norms += (record.mlp_norm, record.post_mlp_norm)
        for part in parts:
            yield self.in_block(layer, f"{part.name}.weight")
            if self.settings.flag(part.bias):
                yield self.in_block(layer, f"{part.name}.bias")
        for norm in norms:
            yield from self._norm(self.in_block(layer, norm)) if norm else ()

    def _norm(self, name: str) -> Iterator[str]:
        style = self.settings.family.norm
        if style.affine:
            yield f"{name}.weight"
        if style.affine and self.settings.flag(style.bias):
            yield f"{name}.bias"


def _prefix(record: Family, held: frozenset[str]) -> str:
    stem = f"{record.embedding}.weight"
    for prefix in record.prefixes:
        if prefix + stem in held:
            return prefix
    raise missing_tensors([record.prefixes[0] + stem])


def _first_held(candidates: tuple[str, ...], held: frozenset[str]) -> str:
    names = [f"{name}.weight" for name in candidates]
    return next((name for name in names if name in held), names[0])
