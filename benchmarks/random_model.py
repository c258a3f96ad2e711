"""A model of realistic size with random weights: speed does not depend on what is learnt."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

LAYERS, WIDTH, FFN, HEADS, VOCAB, CONTEXT = 24, 1024, 4096, 16, 32000, 4096
KV_HEADS = 4  # grouped-query attention, as models of this size have it: 24.6 KB a token
SPECIALS = 259  # unknown, BOS, EOS and the bytes


def write_half_billion(path: Path, seed: int = 0) -> Path:
    """A Llama of 0.43 billion parameters in Q8_0, about 0.5 GB; kept where it is, if it is there.

    Its output rows for special tokens are zero, so that greedy decoding never ends by itself.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    part = path.with_suffix(".part")
    w = gguf.GGUFWriter(part, "llama")
    w.add_name("random-0.5b")
    w.add_context_length(CONTEXT)
    w.add_embedding_length(WIDTH)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(WIDTH // HEADS)
    w.add_vocab_size(VOCAB)
    w.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q8_0))
    _vocabulary(w)

    def q8_0(name: str, rows: int, columns: int, zero_rows: int = 0) -> None:
        blocks = rng.integers(-127, 128, (rows, columns // 32, 34), dtype=np.int8).view(np.uint8)
        scale = np.float16(0.02 / 73)  # int8 noise has a standard deviation of 73; weights of 0.02
        blocks[:, :, :2] = np.frombuffer(scale.tobytes(), np.uint8)
        blocks[:zero_rows] = 0
        data = blocks.reshape(rows, columns // 32 * 34)
        w.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    q8_0("token_embd.weight", VOCAB, WIDTH)
    q8_0("output.weight", VOCAB, WIDTH, zero_rows=SPECIALS)
    w.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for i in range(LAYERS):
        w.add_tensor(f"blk.{i}.attn_norm.weight", np.ones(WIDTH, np.float32))
        w.add_tensor(f"blk.{i}.ffn_norm.weight", np.ones(WIDTH, np.float32))
        kv_width = WIDTH // HEADS * KV_HEADS
        q8_0(f"blk.{i}.attn_q.weight", WIDTH, WIDTH)
        q8_0(f"blk.{i}.attn_k.weight", kv_width, WIDTH)
        q8_0(f"blk.{i}.attn_v.weight", kv_width, WIDTH)
        q8_0(f"blk.{i}.attn_output.weight", WIDTH, WIDTH)
        q8_0(f"blk.{i}.ffn_gate.weight", FFN, WIDTH)
        q8_0(f"blk.{i}.ffn_up.weight", FFN, WIDTH)
        q8_0(f"blk.{i}.ffn_down.weight", WIDTH, FFN)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    part.replace(path)
    return path


def _vocabulary(w: gguf.GGUFWriter) -> None:
    kinds = gguf.TokenType
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{b:02X}>".encode() for b in range(256))]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256]
    words = ["▁", *map(chr, range(33, 127))]
    words += [f"▁w{i}" for i in range(VOCAB - len(tokens) - len(words))]
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list([*tokens, *(word.encode() for word in words)])
    w.add_token_scores([float(-i) for i in range(VOCAB)])
    w.add_token_types([*map(int, types), *[int(kinds.NORMAL)] * len(words)])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(True)
