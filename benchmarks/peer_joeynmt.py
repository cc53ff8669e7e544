"""JoeyNMT in its own environment: a net of our size with random weights, searched by its own `search`."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from joeynmt.batch import Batch
from joeynmt.model import build_model
from joeynmt.search import search
from joeynmt.vocabulary import Vocabulary

from benchmarks.peerloop import DECODER, EMBEDDING, ENCODER, LAYERS, TOKENS_IN, TOKENS_OUT, USERS, VOCABULARY, serve

_SPECIAL: dict[str, Any] = {
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": None,
}
_SPECIAL |= {"unk_id": 0, "pad_id": 1, "bos_id": 2, "eos_id": 3, "sep_id": None, "lang_tags": []}
_CELLS: dict[str, Any] = {
    "type": "recurrent",
    "rnn_type": "lstm",
    "num_layers": LAYERS,
    "embeddings": {"embedding_dim": EMBEDDING},
}
_NET = {
    "encoder": {**_CELLS, "hidden_size": ENCODER, "bidirectional": True},
    "decoder": {**_CELLS, "hidden_size": DECODER, "attention": "luong", "init_hidden": "bridge"},
}


def main() -> None:
    """Build the net, then answer lines."""
    torch.manual_seed(1)
    words = Vocabulary([f"w{number}" for number in range(VOCABULARY - 4)], SimpleNamespace(**_SPECIAL))
    model = build_model(_NET, words, words).eval()

    def reply(users: int, beam: int) -> None:
        source = torch.randint(4, VOCABULARY, (users, TOKENS_IN))
        batch = Batch(
            source,
            torch.full((users,), TOKENS_IN),
            None,
            None,
            None,
            torch.arange(users),
            torch.device("cpu"),
            pad_index=1,
            eos_index=3,
            is_train=False,
        )
        said, _, _ = search(model, batch, TOKENS_OUT, beam, 1.0, min_output_length=TOKENS_OUT)
        if said.shape != (users, TOKENS_OUT):
            raise RuntimeError(f"it said {said.shape} instead of {TOKENS_OUT} tokens")

    serve({"greedy": partial(reply, 1, 1), "beam": partial(reply, 1, 5), "batch": partial(reply, USERS, 1)})


if __name__ == "__main__":
    main()
