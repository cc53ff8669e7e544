"""The loop of a rival's program (`benchmarks.rivals`), in its own environment: nothing of ours is there to import."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping

# As ours: `benchmarks.reply`.
VOCABULARY, EMBEDDING, ENCODER, DECODER, LAYERS = 8192, 512, 256, 512, 2
TOKENS_IN, TOKENS_OUT, USERS = 10, 12, 32


def serve(kinds: Mapping[str, Callable[[], object]]) -> None:
    """Answer each line "KIND COUNT" on stdin with the milliseconds of so many calls, after one that does not count."""
    for line in sys.stdin:
        kind, count = line.split()
        durations = []
        for _ in range(int(count) + (count != "1")):
            begin = time.perf_counter()
            kinds[kind]()
            durations.append((time.perf_counter() - begin) * 1000)
        print(json.dumps(durations[-int(count) :]), flush=True)
