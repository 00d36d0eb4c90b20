"""Keys of config.json that never change E, U, W_V, W_O, the first MLP or the norms.

The map of a head does not look at queries and keys, so all that only shapes the attention pattern (rotary
angles, windows, logit caps, sinks, ALiBi) is harmless here, as are training, generation and bookkeeping.
"""

from __future__ import annotations

import re

_PATTERNS = (
    # bookkeeping
    r"_.*|architectures|auto_map|model_type|name_or_path|base_model|transformers.*|dtype|torch_dtype|use_bfloat16",
    r"[bf]p?(16|32)|torchscript|onnx.*|unsloth.*|tokenizer_class|task_specific_params|finetuning_task|problem_type",
    r"id2label|label2id|num_labels|prefix|tf_legacy_loss|return_dict(_in_generate)?|output_.*|license|model_name.*",
    r"max_length|min_length|do_sample|early_stopping|num_beams|num_beam_groups|diversity_penalty|temperature",
    r"top_[kp]|typical_p|repetition_penalty|length_penalty|(encoder_)?no_repeat_ngram_size|bad_words_ids",
    r"num_return_sequences|exponential_decay_length_penalty|remove_invalid_values|(begin_)?suppress_tokens",
    r".*_token_ids?|.*_token_index|.*_token|chat_template|generation_config|stop.*|line_terminator_id",
    # training and running
    r".*dropout.*|.*pdrop|initializer.*|init_.*|init_std|gradient_checkpointing|pretraining_tp|use_cache",
    r"chunk_size_feed_forward|cache_implementation|hybrid_cache.*|use_parallel_attn_kernel|is_decoder|summary_.*",
    r"(use_)?flash_attn.*|attn_implementation|use_mem.*|fused_.*|masked_softmax_fusion|attention_softmax_in_fp32",
    r"bias_dropout_fusion|skip_bias_add.*|slow_but_exact|layerdrop|use_logn_attn|use_dynamic_ntk|num_logits_to_keep",
    r"router_.*|output_router_logits|reorder_and_upcast_attn|offset_alibi|unk_token_id|multi_gpu.*|seed|z_loss.*",
    # the attention pattern
    r"rope.*|rotary.*|partial_rotary_factor|.*max_position_embeddings|n_positions|n_ctx|seq_len(gth)?|alibi",
    r"max_sequence_length|model_max_length|sliding_window.*|use_sliding_window|max_window_layers|window_size",
    r"layer_types|attention_types|attention_layers|attn_logit_softcapping|query_pre_attn_scalar|no_rope_layer.*",
    r"scale_attn_.*|use_qk_norm|qk_layernorm|use_sdpa|attention_scaling|long_factor|short_factor",
    # monotone in the logits, so no ranking of targets changes
    r"final_logit_softcapping|logit_scale",
    # sizes that the tensors themselves show
    r"vocab_size|intermediate_size|n_inner|ffn_dim|ffn_hidden_size|pad_vocab_size.*|prefixes_vocab_size",
)
_HARMLESS = re.compile("|".join(_PATTERNS))


def is_harmless(key: str) -> bool:
    """Whether a key of config.json can be passed over for every family."""
    return _HARMLESS.fullmatch(key) is not None
