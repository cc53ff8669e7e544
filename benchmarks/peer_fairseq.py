"""fairseq in its own environment: its `lstm` at our size with random weights, searched by its `SequenceGenerator`."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.models.lstm import LSTMModel, base_architecture
from fairseq.sequence_generator import SequenceGenerator

from benchmarks.peerloop import DECODER, EMBEDDING, ENCODER, LAYERS, TOKENS_IN, TOKENS_OUT, USERS, VOCABULARY, serve

_NET: dict[str, Any] = {
    "encoder_embed_dim": EMBEDDING,
    "encoder_hidden_size": ENCODER,
    "encoder_layers": LAYERS,
    "encoder_bidirectional": True,
    "decoder_embed_dim": EMBEDDING,
    "decoder_hidden_size": DECODER,
    "decoder_layers": LAYERS,
    "decoder_out_embed_dim": EMBEDDING,
    "decoder_attention": "1",
    "dropout": 0.0,
    "criterion": "cross_entropy",  # it asks for one even without training
}


def main() -> None:
    """Build the net, then answer lines."""
    torch.manual_seed(1)
    words = Dictionary()
    for number in range(VOCABULARY - len(words)):
        words.add_symbol(f"w{number}")
    arguments = Namespace(**_NET)
    base_architecture(arguments)
    model = LSTMModel.build_model(arguments, Namespace(source_dictionary=words, target_dictionary=words)).eval()
    lengths: dict[str, Any] = {"max_len_a": 0, "max_len_b": TOKENS_OUT, "min_len": TOKENS_OUT}
    greedy, beam = (SequenceGenerator([model], words, beam_size=size, **lengths) for size in (1, 5))

    def reply(users: int, generator: SequenceGenerator) -> None:
        source = torch.randint(words.nspecial, VOCABULARY, (users, TOKENS_IN))
        read = {"src_tokens": source, "src_lengths": torch.full((users,), TOKENS_IN)}
        with torch.no_grad():
            found = generator.generate([model], {"net_input": read})
        said = len(found[0][0]["tokens"])
        if said != TOKENS_OUT + 1:
            raise RuntimeError(f"it said {said} tokens instead of {TOKENS_OUT} and the end mark")

    serve(
        {"greedy": partial(reply, 1, greedy), "beam": partial(reply, 1, beam), "batch": partial(reply, USERS, greedy)}
    )


if __name__ == "__main__":
    main()
