"""What GGUF files call the settings and weights of decoders, as llama.cpp writes them."""

from kft.models.families.record import Gguf

_LAYER, _OURS = "blk.{i}", "layers.{i}"
# Key of the metadata, after the architecture's name → config.json's key.
KEYS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
# Name in the file → name in the checkpoint, without ".weight" and ".bias".
NAMES = {
    "token_embd": "embed_tokens",
    f"{_LAYER}.attn_norm": f"{_OURS}.input_layernorm",
    f"{_LAYER}.attn_q": f"{_OURS}.self_attn.q_proj",
    f"{_LAYER}.attn_k": f"{_OURS}.self_attn.k_proj",
    f"{_LAYER}.attn_v": f"{_OURS}.self_attn.v_proj",
    f"{_LAYER}.attn_output": f"{_OURS}.self_attn.o_proj",
    f"{_LAYER}.attn_q_norm": f"{_OURS}.self_attn.q_norm",
    f"{_LAYER}.attn_k_norm": f"{_OURS}.self_attn.k_norm",
    f"{_LAYER}.ffn_norm": f"{_OURS}.post_attention_layernorm",
    f"{_LAYER}.ffn_gate": f"{_OURS}.mlp.gate_proj",
    f"{_LAYER}.ffn_up": f"{_OURS}.mlp.up_proj",
    f"{_LAYER}.ffn_down": f"{_OURS}.mlp.down_proj",
    "output_norm": "norm",
    "output": "lm_head",
}


def plain(architecture: str) -> Gguf:
    """Of decoders whose queries and keys stand in the file as in the checkpoint."""
    return Gguf(architecture, KEYS, NAMES)


def interleaved(architecture: str) -> Gguf:
    """Of decoders whose queries and keys llama.cpp reorders: it turns neighbours, not halves."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    return Gguf(architecture, KEYS, NAMES, heads)
