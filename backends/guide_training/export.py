"""Writes the guide as a GGUF file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike

    from .network import Shape
    from .pieces import Vocabulary

CONTEXT_LENGTH = 512


def write(
    path: Path,
    params: Mapping[str, ArrayLike],
    shape: Shape,
    vocabulary: Vocabulary,
    template: str,
) -> None:
    """Writes parameters in Q8_0 (gains in F32), vocabulary, template and greedy sampling."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _describe(writer, shape)
    _add_vocabulary(writer, vocabulary, template)
    for name, values in params.items():
        # libllama has no F64 tensors: the cast comes last.
        array = np.asarray(values).astype(np.float32)
        if array.ndim == 1:
            writer.add_tensor(f"{name}.weight", array)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            # GGUF rows are (out, in); only the embedding already is.
            array = array if name == "token_embd" else array.T
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("TabAgent guide")
    writer.add_description("Answers short questions about TabAgent; knows nothing else.")
    writer.add_license("mit")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_float32("general.sampling.temp", 0.0)
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocabulary)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary, template: str) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(vocabulary.pieces)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    # Neither is added: a prompt has the same tokens whether the caller adds special tokens or not.
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(template)
