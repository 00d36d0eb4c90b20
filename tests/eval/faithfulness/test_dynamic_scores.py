"""Dynamic scores: the fast way equals one pass and one projection per head and prompt; prompts and pairs."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from eval.faithfulness.dynamic_scores import Projector, batches, dynamic_scores, record
from eval.faithfulness.running.pair_choice import (
    ChosenPairs,
    SourcePairs,
    in_groups,
    one_token_pairs,
    several_token_pairs,
    spread,
)
from eval.faithfulness.running.templates import (
    MARK,
    OWN_TEMPLATES,
    TEMPLATE_SETS,
    TEMPLATES,
    Prompt,
    PromptMaker,
    template_hash,
    templates_text,
)
from maps_engine.errors import UserMistake
from tests.support.eval.faithfulness_models import plain_scores, relation_of, tiny_bench, tiny_relation, words
from tests.support.tiny_models import tiny_tokenizer

LEAD_INS = ("It was", "My friend said", "Words such as", "See also", "People like")  # that results are compared for
TWO = ("the<X>", "one<X> two the")


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt-neox", "phi3", "falcon-7b", "bloom", "olmo"])
@pytest.mark.parametrize("k", [1, 7])
def test_scores_equal_the_plain_computation(family, k, tmp_path):
    bench = tiny_bench(tmp_path, family)
    chosen, _ = one_token_pairs(
        [tiny_relation(bench.checkpoint, k=k), tiny_relation(bench.checkpoint, "far", step=5, k=k)],
        bench.checkpoint.vocabulary,
        min_pairs=2,
    )
    relations = [one.pairs for one in chosen]
    sources = list(dict.fromkeys(s for one in relations for s in one.sources))
    states = record(bench.model, bench.maker, sources, TWO, batch=4)
    found = dynamic_scores(states, sources, relations, bench.projectors)
    for relation, scores in zip(relations, found, strict=True):
        for fold, projection in ((False, "plain"), (True, "folded")):
            if fold:
                assert scores[projection].with_context is None
            contexts = ((False, "without_context"),) if fold else ((False, "without_context"), (True, "with_context"))
            for context, side in contexts:
                score, suppression = plain_scores(
                    bench.model, bench.checkpoint, bench.maker, relation, TWO, with_context=context, fold=fold
                )
                ours = getattr(scores[projection], side)
                torch.testing.assert_close(ours.score, score)
                torch.testing.assert_close(ours.suppression, suppression)
        assert scores["plain"].prompts == 2 * len(relation.sources)


@pytest.mark.parametrize("family", ["gemma2", "olmo2"])
def test_folded_projection_goes_through_the_post_attention_norm(family, tmp_path):
    bench = tiny_bench(tmp_path, family)
    outputs = bench.projectors["folded"]
    circuit = outputs._circuit(1, torch.zeros(1, 2, bench.model.shape.d_head))
    gain = bench.checkpoint.weights.post_attention_norm(1).gain
    torch.testing.assert_close(circuit.heads.output, bench.checkpoint.weights.attention(1).output * gain)


def test_a_held_unembedding_is_shared(tmp_path):
    bench = tiny_bench(tmp_path)
    table = bench.projectors["plain"]._engine.unembedding
    again = Projector(bench.checkpoint, "plain", unembedding=table)
    assert again._engine.unembedding is table


def test_any_of_several_targets_counts(tmp_path):
    bench = tiny_bench(tmp_path)
    sources, every = ((5,), (6,)), tuple(range(104))
    states = record(bench.model, bench.maker, sources, TWO)
    found = dynamic_scores(states, sources, [SourcePairs(sources, (every, every), 1)], bench.projectors)
    assert found[0]["plain"].with_context.score.eq(1).all()
    assert found[0]["plain"].without_context.suppression.eq(1).all()


def test_record_puts_rows_template_by_template(tmp_path):
    bench = tiny_bench(tmp_path)
    sources = [(5,), (6, 7), (8,), (9, 10)]
    seen: list[int] = []
    states = record(bench.model, bench.maker, sources, TWO, batch=1, progress=seen.append)
    assert sum(seen) == len(sources) * len(TWO)
    for t, template in enumerate(TWO):
        for i, source in enumerate(sources):
            prompt = bench.maker.make(template, source)
            alone = bench.model.head_states(torch.tensor([prompt.ids]), prompt.source)
            torch.testing.assert_close(states.mixed[:, t * 4 + i], alone.mixed[:, 0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(states.values[:, t * 4 + i], alone.values[:, 0], atol=1e-5, rtol=1e-4)


def test_nothing_to_record_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no prompts"):
        record(tiny_bench(tmp_path).model, None, [], TWO)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30), st.integers(1, 7))
def test_batches_cover_every_prompt_once_and_mix_nothing(lengths, size):
    prompts = [Prompt(tuple(range(length)), length - 1) for length in [*lengths, *lengths]]
    found = batches(prompts, per_template=len(lengths), size=size)
    assert sorted(row for rows in found for row in rows) == list(range(len(prompts)))
    for rows in found:
        assert 1 <= len(rows) <= size
        assert len({(row // len(lengths), len(prompts[row].ids), prompts[row].source) for row in rows}) == 1


# prompts


@pytest.fixture
def maker(tmp_path) -> PromptMaker:
    return tiny_bench(tmp_path).maker


def test_prompts_are_what_the_tokenizer_makes_of_the_whole_text(maker):
    for template in TEMPLATES:
        for word in ("dog", "France"):
            source = tuple(maker.vocabulary.encode(f" {word}"))
            prompt = maker.make(template, source)
            assert list(prompt.ids) == maker.vocabulary.encode(template.replace("<X>", f" {word}"))
            assert prompt.ids[prompt.source] == source[-1]
            assert prompt.ids[prompt.source - len(source) + 1 : prompt.source + 1] == source


def test_only_what_the_tokenizer_wants_stands_in_front(maker):
    wanting = tiny_tokenizer()
    wanting.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    prompt = PromptMaker(maker.vocabulary, wanting).make("the<X> dog", (7,))
    assert prompt.ids == (0, *maker.make("the<X> dog", (7,)).ids)
    assert prompt.ids[prompt.source] == 7


def test_an_opening_from_a_gguf_header_is_put_once(maker):
    plain = tiny_tokenizer()
    assert PromptMaker(maker.vocabulary, plain, (0,)).make("the<X>", (7,)).ids[0] == 0
    wanting = tiny_tokenizer()
    wanting.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    ids = PromptMaker(maker.vocabulary, wanting, (0,)).make("the<X>", (7,)).ids
    assert list(ids).count(0) == 1


@pytest.mark.parametrize("template", ["no mark", "two<X> marks<X>"])
def test_a_template_needs_one_mark(maker, template):
    with pytest.raises(UserMistake, match="one place for the source"):
        maker.make(template, (7,))


def test_sets_of_templates():
    assert len(TEMPLATES) == len(OWN_TEMPLATES) == 4
    assert TEMPLATE_SETS["both"] == (*TEMPLATES, *OWN_TEMPLATES)
    assert len({template_hash(one) for one in (*TEMPLATE_SETS.values(), TEMPLATES[:3])}) == 4
    assert templates_text(TEMPLATES).startswith("paper: “This is a document about X”; “No X means no”")
    assert templates_text(("a<X>",)) == "“a X”"


def test_our_templates_share_no_word_with_the_papers_nor_with_lead_ins():
    def words_of(texts):
        return {word.casefold() for text in texts for word in re.findall(r"\w+", text.replace(MARK, " "))}

    own = words_of(OWN_TEMPLATES)
    assert len(own) > 12
    assert not own & words_of(TEMPLATES)
    assert not own & words_of(LEAD_INS)


# pairs


def test_pairs_are_spread_over_the_relation(tmp_path):
    checkpoint = tiny_bench(tmp_path).checkpoint
    relation = tiny_relation(checkpoint)
    (whole,), _ = one_token_pairs([relation], checkpoint.vocabulary, min_pairs=2)
    (few,), _ = one_token_pairs([relation], checkpoint.vocabulary, min_pairs=2, max_pairs=4, k=3)
    assert len(few.pairs.sources) == 4
    assert few.pairs.k == 3
    assert few.usable == len(whole.pairs.sources) == len(words(checkpoint))
    assert set(few.pairs.sources) <= set(whole.pairs.sources)
    assert few.fingerprint != whole.fingerprint


def test_too_few_pairs_are_named(tmp_path):
    checkpoint = tiny_bench(tmp_path).checkpoint
    relation = tiny_relation(checkpoint)
    chosen, few = one_token_pairs([relation], checkpoint.vocabulary, min_pairs=999)
    assert not chosen
    assert few[0].why == f"too few pairs ({len(words(checkpoint))} of {relation.n_pairs})"


def test_sources_of_several_tokens(tmp_path):
    checkpoint = tiny_bench(tmp_path).checkpoint
    target = words(checkpoint)[0]
    relation = relation_of(
        "several", (("dog dog", (target,)), (target, (target,)), ("dog cat", ("zzzz",)), ("d" * 40, (target,)))
    )
    (found,), _ = several_token_pairs([relation], checkpoint.vocabulary, min_pairs=1)
    assert found.pairs.sources == (tuple(checkpoint.vocabulary.encode(" dog dog")),)
    assert found.pairs.targets == ((checkpoint.vocabulary.single_id(target),),)


@given(st.integers(0, 60), st.none() | st.integers(1, 70))
def test_spread_keeps_order_and_never_repeats(n, most):
    found = spread(n, most)
    assert found == sorted(set(found))
    assert len(found) == (n if most is None else min(n, most))


@given(st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=8, unique=True), max_size=8), st.integers(1, 25))
def test_groups_hold_every_operation_once_within_bounds(lists, most):
    chosen = [
        ChosenPairs(relation_of(f"r{i}", ()), SourcePairs(tuple((s,) for s in ids), ((1,),) * len(ids), 1), len(ids))
        for i, ids in enumerate(lists)
    ]
    groups = in_groups(chosen, max_sources=most)
    assert sorted(one.name for group in groups for one in group) == sorted(one.name for one in chosen)
    for group in groups:
        assert len(group) == 1 or len({s for one in group for s in one.pairs.sources}) <= most
