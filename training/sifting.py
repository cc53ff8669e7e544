"""Too much of the same out of the pairs: duplicates, floods, and more of one person than the others can outweigh.

The newest pairs win. Imports are exempt from the limits on people: they are the operator's declared choice, and all
of them have the time of the import.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

import numpy as np

from chatbot.config import LearnSettings
from chatbot.learnable import LearnablePair
from chatbot.text import clean


class Sifted(StrEnum):
    """Why a pair that may be learnt from was not, in the words of the export's report."""

    DUPLICATE = "said twice"
    SAME_REPLY = "same reply of one person too often"
    FLOOD = "too much of one person in an hour"
    PERSON = "too much of one person"


@dataclass(frozen=True, slots=True)
class Sifting:
    """Which pairs are worth learning, by the rows of their replies; how many others there were, by reason."""

    rows: array[int]  # ascending
    left_out: Counter[str]

    def __contains__(self, pair: LearnablePair) -> bool:
        row = pair.message_ids[-1]
        place = bisect_left(self.rows, row)
        return place < len(self.rows) and self.rows[place] == row


def sift(pairs: Iterable[LearnablePair], settings: LearnSettings) -> Sifting:
    """Judge the pairs, the last being the newest, without holding any.

    Held are 17 bytes of a pair, its row and the hash of its words, and 24 more for the limits of one that is not
    imported; about twice that for the moment of deciding. Hashes have 64 bits: among a million pairs, one in 37
    million such logs loses a pair to another's hash.
    """
    limits = {Sifted.SAME_REPLY: settings.same_reply, Sifted.FLOOD: settings.per_hour}
    limits |= {Sifted.PERSON: settings.per_person}
    keys = {reason: array("Q") for reason, most in limits.items() if most}
    rows, words, imported = array("q"), array("Q"), bytearray()
    for pair in pairs:
        texts = [clean(text).casefold() for text in (*pair.context, pair.reply)]
        rows.append(pair.message_ids[-1])
        words.append(_hash(*texts))
        imported.append(pair.imported)
        if not pair.imported:
            own = {Sifted.SAME_REPLY: texts[-1], Sifted.FLOOD: f"{pair.created_at:%Y-%m-%d %H}", Sifted.PERSON: ""}
            for reason, column in keys.items():
                column.append(_hash(str(pair.person), own[reason]))
    newest = len(words) - 1 - np.unique(np.asarray(words)[::-1], return_index=True)[1]
    keeping = np.zeros(len(words), bool)
    keeping[newest] = True
    left_out = Counter[str]({Sifted.DUPLICATE: len(words) - len(newest)})
    limited = np.flatnonzero(np.frombuffer(imported, np.uint8) == 0)
    caps = [_Cap(reason, limits[reason], column) for reason, column in keys.items()]
    for number in range(len(limited) - 1, -1, -1):
        if not keeping[limited[number]]:
            continue
        full = next((cap for cap in caps if cap.is_full(number)), None)
        if full is not None:
            keeping[limited[number]] = False
            left_out[full.reason] += 1
            continue
        for cap in caps:
            cap.count(number)
    return Sifting(array("q", np.sort(np.asarray(rows)[keeping]).tobytes()), +left_out)


class _Cap:
    """How many pairs of the same key are kept so far, and whether that is the most."""

    def __init__(self, reason: Sifted, most: int, keys: array[int]) -> None:
        self.reason = reason
        self._most = most
        different, self._which = np.unique(np.asarray(keys), return_inverse=True)
        self._counts = np.zeros(len(different), np.int32)

    def is_full(self, number: int) -> bool:
        return bool(self._counts[self._which[number]] >= self._most)

    def count(self, number: int) -> None:
        self._counts[self._which[number]] += 1


def _hash(*texts: str) -> int:
    """Of texts without line breaks."""
    return int.from_bytes(blake2b("\n".join(texts).encode(), digest_size=8).digest())
