"""Tokens of text-to-text pairs: each side in its own alphabet, or both in one, and no talk around them.

In: text of a side. Out: ids. It has the interface of `chatbot.tokenizer.Tokenizer`, which is its target side, so that
engines and decoding need not know what they serve. A kind of side is a class here and a line in `SIDES`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from chatbot.errors import ModelFolderError
from chatbot.text import clean
from chatbot.tokenizer import _MARKERS, _SOURCE, Tokenizer

SIDES_FILE, SOURCE_FILE = "sides.json", "source.json"
_UNKNOWN = "<unk>"
_ONLY_SOURCE = ["other"]


class Subwords(Tokenizer):
    """Byte-level BPE, as for talk."""

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> Tokenizer:
        """The merges of `texts`."""
        return cls.train(texts, size, _ONLY_SOURCE)


class Characters(Tokenizer):
    """A token a character; those that were not there when it learnt are all one unknown token."""

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> Tokenizer:
        """The characters of `texts`, the most frequent first if there are more than `size` tokens allow."""
        counts: dict[str, int] = {}
        for text in texts:
            for character in text:
                counts[character] = counts.get(character, 0) + 1
        markers = [*_MARKERS, _SOURCE.format(*_ONLY_SOURCE), _UNKNOWN]
        kept = sorted(counts, key=lambda character: (-counts[character], character))[: max(0, size - len(markers))]
        backend = Backend(
            models.WordLevel({token: place for place, token in enumerate([*markers, *kept])}, unk_token=_UNKNOWN)
        )
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        backend.decoder = decoders.Fuse()
        backend.add_special_tokens([AddedToken(marker, special=True) for marker in markers])
        return cls(backend)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, markers skipped."""
        return str(self._backend.decode([int(i) for i in ids], skip_special_tokens=True)).strip()


SIDES: dict[str, type[Subwords] | type[Characters]] = {"characters": Characters, "subwords": Subwords}


class PairTokenizer(Tokenizer):
    """The target's tokens, and `source`, the source's: the same ones where both sides share them.

    `source` is None where the source is no text. With `reverse` the source is read from its end (Sutskever et al. 2014,
    section 3.3). Sources of fewer tokens than `fill` get padding behind them that is read like any token.
    """

    def __init__(
        self, kind: str, target: Tokenizer, source: Tokenizer | None, *, reverse: bool = False, fill: int = 0
    ) -> None:
        super().__init__(target._backend)
        self.kind, self.target, self.source, self.reverse, self.fill = kind, target, source, reverse, fill

    @property
    def shared(self) -> bool:
        """Whether both sides are one."""
        return self.source is self.target

    def decode(self, ids: Sequence[int]) -> str:
        """The target's text."""
        return self.target.decode(ids)

    def encode_source(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """What the encoder reads of each of `texts`, at least one token and at most `max_tokens`."""
        if self.source is None:
            raise ModelFolderError("this model reads vectors, no text")
        rows = [ids[:max_tokens] or [self.eos_id] for ids in self.source.encode_batch(texts)]
        rows = [ids + [self.pad_id] * (self.fill - len(ids)) for ids in rows]
        return [ids[::-1] for ids in rows] if self.reverse else rows

    def encode_context(self, history: Sequence[str], text: str, source: str, max_tokens: int) -> list[int]:
        """`text` alone: a pair has no history and no source marker."""
        return self.encode_source([clean(text)], max_tokens)[0]

    def save(self, path: Path) -> None:
        """Write the target to `path` and, beside it, the source and how both are read."""
        super().save(path)
        if self.source is not None and not self.shared:
            self.source.save(path.with_name(SOURCE_FILE))
        facts = {
            "tokens": self.kind,
            "shared": self.shared,
            "text": self.source is not None,
            "reverse": self.reverse,
            "fill": self.fill,
        }
        path.with_name(SIDES_FILE).write_text(json.dumps(facts) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder or a run, of talk or of pairs; ModelFolderError if it is not one of ours."""
    target_file = folder / "tokenizer.json"
    if not (folder / SIDES_FILE).exists():
        return Tokenizer.load(target_file)
    try:
        facts = json.loads((folder / SIDES_FILE).read_text(encoding="utf-8"))
        kind = SIDES[facts["tokens"]]
        target = kind.load(target_file)
        source = target if facts["shared"] else kind.load(folder / SOURCE_FILE) if facts["text"] else None
        reverse, fill = bool(facts["reverse"]), int(facts["fill"])
        return PairTokenizer(facts["tokens"], target, source, reverse=reverse, fill=fill)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(f"{folder / SIDES_FILE} cannot be used: {error}; restore it, or train again") from error
