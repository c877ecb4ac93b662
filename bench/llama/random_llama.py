#!/usr/bin/env python3
"""Writes a llama model of Llama 3.2 1B's shape with random weights, for measuring: the same bytes every time.

The vocabulary is another model's. Which tensor has which type follows llama.cpp's own quantisation. Weights are about as
large as those of a trained model, so that everything stays finite; what the model says means nothing. Needs the PyPI
package gguf (scripts/fetch random-models).
"""

import argparse
import os
import pathlib
import zlib

import gguf
import numpy
from gguf import GGMLQuantizationType as Type

LAYERS, WIDTH, FEED_FORWARD, HEADS, KEY_HEADS = 16, 2048, 8192, 32, 8
HEAD = WIDTH // HEADS
BLOCK, SUPER_BLOCK = 32, 256
SPREAD = WIDTH**-0.5  # of the weights: keeps what a layer returns as large as what it got


def halves(random: numpy.random.Generator, rows: int, size: float) -> numpy.ndarray:
    """`rows` f16 numbers as bytes: half to one and a half times `size`, of either sign."""
    values = random.uniform(0.5, 1.5, rows) * size * random.choice((-1.0, 1.0), rows)
    return values.astype(numpy.float16).view(numpy.uint8).reshape(rows, 2)


def octets(random: numpy.random.Generator, rows: int, columns: int) -> numpy.ndarray:
    return numpy.frombuffer(random.bytes(rows * columns), numpy.uint8).reshape(rows, columns)


def f16(random: numpy.random.Generator, count: int) -> numpy.ndarray:
    """Between 2^-7 and 2^-5, of either sign: a random sign, last bit of the exponent, and fraction."""
    bits = numpy.frombuffer(random.bytes(2 * count), numpy.uint16)
    return ((bits & numpy.uint16(0x87FF)) | numpy.uint16(0x2000)).view(numpy.uint8)


# In each the second factor undoes the spread of what the random bytes stand for.
def q4_0(random: numpy.random.Generator, count: int) -> numpy.ndarray:
    blocks = count // BLOCK
    return numpy.hstack((halves(random, blocks, SPREAD / 4.6), octets(random, blocks, 16)))


def q8_0(random: numpy.random.Generator, count: int) -> numpy.ndarray:
    blocks = count // BLOCK
    return numpy.hstack((halves(random, blocks, SPREAD / 74), octets(random, blocks, 32)))


def q4_k(random: numpy.random.Generator, count: int) -> numpy.ndarray:
    """Scale * 6 bits * 4 bits, less a minimum * 6 bits, which takes the mean away."""
    blocks = count // SUPER_BLOCK
    scale = halves(random, blocks, SPREAD / 300)
    least = (scale.view(numpy.float16).astype(numpy.float32) * 7.5).astype(numpy.float16).view(numpy.uint8)
    return numpy.hstack((scale, least.reshape(blocks, 2), octets(random, blocks, 12), octets(random, blocks, 128)))


def q6_k(random: numpy.random.Generator, count: int) -> numpy.ndarray:
    """Scale * 8 bits with sign, of which 6 are used, * (6 bits - 32)."""
    blocks = count // SUPER_BLOCK
    quants = octets(random, blocks, 128 + 64)
    scales = random.integers(-32, 32, (blocks, 16), numpy.int8).view(numpy.uint8)
    return numpy.hstack((quants, scales, halves(random, blocks, SPREAD / (18.5 * 18.5))))


MAKERS = {Type.F16: f16, Type.Q4_0: q4_0, Type.Q8_0: q8_0, Type.Q4_K: q4_k, Type.Q6_K: q6_k}


def more_bits(layer: int) -> bool:
    """The layers in which a mixture of types spends more on the most sensitive tensors."""
    return layer < LAYERS // 8 or layer >= 7 * LAYERS // 8 or (layer - LAYERS // 8) % 3 == 2


# By name: the file's own number, the type of most matrices, of the embedding (which is the output layer, too), and of
# the values' and the last feed-forward matrix in layers that get more bits.
KINDS = {
    "Q4_0": (gguf.LlamaFileType.MOSTLY_Q4_0, Type.Q4_0, Type.Q6_K, Type.Q4_0),
    "Q8_0": (gguf.LlamaFileType.MOSTLY_Q8_0, Type.Q8_0, Type.Q8_0, Type.Q8_0),
    "Q4_K_M": (gguf.LlamaFileType.MOSTLY_Q4_K_M, Type.Q4_K, Type.Q6_K, Type.Q6_K),
    "F16": (gguf.LlamaFileType.MOSTLY_F16, Type.F16, Type.F16, Type.F16),
}


def tensors(kind: str, vocabulary: int) -> list[tuple[str, tuple[int, ...], Type]]:
    """Name, shape as numpy has it (rows first), and type, in the file's order."""
    _, most, embedding, better = KINDS[kind]
    found = [("token_embd.weight", (vocabulary, WIDTH), embedding), ("output_norm.weight", (WIDTH,), Type.F32)]
    for layer in range(LAYERS):
        sensitive = better if more_bits(layer) else most
        for name, shape, tensor_type in (
            ("attn_norm", (WIDTH,), Type.F32),
            ("attn_q", (WIDTH, WIDTH), most),
            ("attn_k", (KEY_HEADS * HEAD, WIDTH), most),
            ("attn_v", (KEY_HEADS * HEAD, WIDTH), sensitive),
            ("attn_output", (WIDTH, WIDTH), most),
            ("ffn_norm", (WIDTH,), Type.F32),
            ("ffn_gate", (FEED_FORWARD, WIDTH), most),
            ("ffn_up", (FEED_FORWARD, WIDTH), most),
            ("ffn_down", (WIDTH, FEED_FORWARD), sensitive),
        ):
            found.append((f"blk.{layer}.{name}.weight", shape, tensor_type))
    return found


def byte_shape(shape: tuple[int, ...], tensor_type: Type) -> tuple[int, ...]:
    block, size = gguf.GGML_QUANT_SIZES[tensor_type]
    return (*shape[:-1], shape[-1] // block * size)


def data_of(name: str, shape: tuple[int, ...], tensor_type: Type) -> numpy.ndarray:
    if tensor_type == Type.F32:  # the norms
        return numpy.ones(shape, numpy.float32)
    random = numpy.random.Generator(numpy.random.PCG64([zlib.crc32(name.encode()), int(tensor_type)]))
    made = MAKERS[tensor_type](random, int(numpy.prod(shape)))
    return numpy.ascontiguousarray(made).reshape(byte_shape(shape, tensor_type))


def copy_vocabulary(source: gguf.GGUFReader, writer: gguf.GGUFWriter) -> int:
    """All that the other file says of its tokens; returns how many there are."""
    count = 0
    for name, field in source.fields.items():
        if not name.startswith("tokenizer."):
            continue
        value, kind = field.contents(), field.types[0]
        writer.add_key_value(name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
        if name == "tokenizer.ggml.tokens":
            count = len(value)
    return count


def write(kind: str, vocabulary: pathlib.Path, out: pathlib.Path) -> None:
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name(f"random llama 1B {kind}")
    writer.add_block_count(LAYERS)
    writer.add_context_length(8192)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(500000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(KINDS[kind][0])
    tokens = copy_vocabulary(gguf.GGUFReader(vocabulary), writer)
    writer.add_vocab_size(tokens)
    wanted = tensors(kind, tokens)
    for name, shape, tensor_type in wanted:
        if tensor_type == Type.F32:
            writer.add_tensor_info(name, shape, numpy.dtype(numpy.float32), 4 * int(numpy.prod(shape)))
        else:
            stored = byte_shape(shape, tensor_type)
            writer.add_tensor_info(name, stored, numpy.dtype(numpy.uint8), int(numpy.prod(stored)), tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    # One tensor at a time: a whole model need not fit into memory.
    for name, shape, tensor_type in wanted:
        writer.write_tensor_data(data_of(name, shape, tensor_type))
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--vocabulary", type=pathlib.Path, required=True, help="a GGUF file whose tokens to take")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    part = options.out.with_name(f"{options.out.name}.{os.getpid()}.part")
    try:
        write(options.kind, options.vocabulary, part)
        part.replace(options.out)  # nobody ever sees half a model
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
