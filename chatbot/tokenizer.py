"""Subword tokens: byte-level BPE, so that no input, emoji or script is ever unknown.

The `tokenizers` library does the work; this class adds the markers of a conversation, which live beside the text
vocabulary and can never be produced by text: a person who types "<bot>" gets the characters, not the marker.
In: cleaned text. Out: token ids. It knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from chatbot.errors import ModelFolderError

_MARKERS = ("<pad>", "<s>", "</s>", "<user>", "<bot>")
_SOURCE = "<source:{}>"
REVERSED = "reversed"  # the source under which a reply is read, and the turn that it answers is what comes out
# The splitter puts a space before every digit and before what follows one; these take out what was not written.
_BEFORE_DIGIT = re.compile(r" (?=\d)")
_AFTER_DIGIT = re.compile(
    r"(?<=\d) (?=[.,:;!?%)\]}'\"’”°…]|[-–/+*=~x](?=\S)|(?:st|nd|rd|th|s|am|pm)\b"
    r"|[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef])"
)


class Tokenizer:
    """Text to ids and back; `pad_id` 0, `bos_id` 1, `eos_id` 2, `user_id` 3, `bot_id` 4, then the sources."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # Without this, markers typed by a person would be read as markers.
        backend.encode_special_tokens = True
        self.pad_id, self.bos_id, self.eos_id, self.user_id, self.bot_id = (self._id(m) for m in _MARKERS)
        self.sources: dict[str, int] = {
            token.removeprefix("<source:").removesuffix(">"): index
            for token, index in backend.get_vocab(with_added_tokens=True).items()
            if token.startswith("<source:")
        }

    def _id(self, token: str) -> int:
        index = self._backend.token_to_id(token)
        if index is None:
            raise ModelFolderError(f"the tokenizer has no {token} marker: this is not one of our model folders")
        return int(index)

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int, sources: Sequence[str]) -> Tokenizer:
        """Learn the merges from `texts`; `vocabulary_size` counts everything, `sources` get a marker each."""
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=True)]
        )
        backend.decoder = decoders.ByteLevel()
        backend.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=vocabulary_size,
                min_frequency=2,
                show_progress=False,
                special_tokens=[*_MARKERS, *(_SOURCE.format(name) for name in sources)],
                # All 256 bytes, seen or not: this is what makes unknown tokens impossible.
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            ),
        )
        return cls(backend)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read `tokenizer.json`; ModelFolderError if it is not one of ours."""
        try:
            return cls(Backend.from_file(str(path)))
        except ModelFolderError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise ModelFolderError(f"{path} is not a tokenizer: {error}") from error

    def with_sources(self, names: Sequence[str]) -> Tokenizer:
        """This tokenizer with a marker for each of `names` that has none yet, behind all ids that there are."""
        backend = Backend.from_str(self._backend.to_str())
        backend.add_special_tokens([_SOURCE.format(name) for name in names if name not in self.sources])
        return Tokenizer(backend)

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        self._backend.save(str(path))

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @property
    def marker_ids(self) -> frozenset[int]:
        """Ids that stand for no text: never to be generated, except `eos_id`."""
        return frozenset(self._id(m) for m in _MARKERS) | frozenset(self.sources.values())

    def source_id(self, name: str) -> int:
        """The marker of a source; "other" stands in for one that this tokenizer was not trained with."""
        return self.sources.get(name, self.sources["other"])

    def encode(self, text: str) -> list[int]:
        """Ids of one turn, without markers."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts, in parallel."""
        return [list(e.ids) for e in self._backend.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, markers skipped; bytes that form no character become U+FFFD.

        Whether a space stood behind a digit is not in the ids ("3 km" and "3km" are one): it is guessed.
        """
        text = str(self._backend.decode([int(i) for i in ids], skip_special_tokens=True))
        return _AFTER_DIGIT.sub("", _BEFORE_DIGIT.sub("", text)).strip()

    def encode_context(self, history: Sequence[str], text: str, source: str, max_tokens: int) -> list[int]:
        """What the encoder reads: the source marker, then turns, oldest first, each behind its speaker's marker.

        The speakers alternate and the last one is the user. Older turns that do not fit whole are left out; the
        nearest turn is always there, its end if it alone is too long.
        """
        # A character is at least one byte and a token at most a few dozen: cutting first keeps 100 kB lines cheap.
        budget = max_tokens - 1
        turns = [[self.user_id, *self.encode(text[-16 * max_tokens :])[-(budget - 1) :]]]
        used = len(turns[0])
        for age, turn in enumerate(reversed(history), start=1):
            ids = self.encode(turn[-16 * max_tokens :])
            used += len(ids) + 1
            if used > budget:
                break
            turns.append([self.bot_id if age % 2 else self.user_id, *ids])
        return [self.source_id(source), *(index for turn in reversed(turns) for index in turn)]
