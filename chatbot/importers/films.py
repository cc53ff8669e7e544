"""Dialogues of films: the Cornell Movie-Dialogs Corpus, and OpenSubtitles as OPUS ships it (XML, or lines of text).

Cornell: Danescu-Niculescu-Mizil and Lee 2011, "Chameleons in imagined conversations". OpenSubtitles: Lison and
Tiedemann 2016, "OpenSubtitles2016". Subtitles do not tell who speaks; that each sentence answers the one before is the
assumption of Vinyals and Le 2015, "A Neural Conversational Model", section 4.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

from chatbot.errors import UsageError
from chatbot.importers.files import MAX_LINE_BYTES, MAX_TEXT_CHARS, chunks, lines, text_lines
from chatbot.importers.records import Exchange, Item, Skipped, Source

_FIELD = " +++$+++ "
_LINES, _CONVERSATIONS = "movie_lines.txt", "movie_conversations.txt"
_IDS = re.compile(r"'([^']+)'")
_MOST_LINES = 5_000_000  # sixteen times as many as there are
# A pause of this length ends a scene, and with it the dialogue.
_SCENE_GAP_S = 10.0
_SCENE_TURNS = 500  # of a file without times, so that a dialogue does not become the whole file
_CLOCK = re.compile(r"(\d+):(\d+):(\d+)(?:[,.](\d+))?")


def looks_cornell(head: str) -> bool:
    """Whether a file that begins so is one of the corpus."""
    return _FIELD in head.partition("\n")[0]


def read_cornell(source: Source) -> Iterator[Item]:
    """The conversations, with the lines of the file beside them. `path` is `movie_conversations.txt`."""
    beside = source.path.parent / _LINES
    if source.path.name == _LINES or not beside.is_file():
        raise UsageError(f"name {_CONVERSATIONS}, with {_LINES} in the same folder: {source.path.parent}")
    places = _places(beside)
    with beside.open("rb") as spoken:
        for number, line in text_lines(source.path, "iso-8859-1"):
            if isinstance(line, Skipped):
                yield line
            elif line.strip():
                yield _conversation(number, line.split(_FIELD), spoken, places)


def _places(path: Path) -> Mapping[str, int]:
    """Where in the file each line begins, by its id: the texts themselves stay on disk."""
    places: dict[str, int] = {}
    at = 0
    for _, line in lines(path):
        if line is None:
            raise UsageError(f"{path} has a line of over {MAX_LINE_BYTES >> 20} MiB: it is not that of the corpus")
        places[line[:20].decode("iso-8859-1").partition(" ")[0]] = at
        at += len(line) + 1
        if len(places) > _MOST_LINES:
            raise UsageError(f"{path} has over {_MOST_LINES} lines: it is not that of the corpus")
    return places


def _conversation(number: int, fields: list[str], spoken: BinaryIO, places: Mapping[str, int]) -> Item:
    ids = _IDS.findall(fields[-1]) if len(fields) == 4 else []
    if not ids:
        return Skipped(number, "not a conversation: four fields, the last a list of line ids")
    turns, speakers = [], []
    for line_id in ids:
        if line_id not in places:
            return Skipped(number, f"{_LINES} lacks one of its lines")
        spoken.seek(places[line_id])
        parts = spoken.readline(MAX_LINE_BYTES).decode("iso-8859-1").rstrip("\r\n").split(_FIELD, 4)
        if len(parts) != 5:
            return Skipped(number, f"a line of it in {_LINES} has not five fields")
        if parts[4].strip():  # a few lines of the corpus are empty
            speakers.append(f"cornell:{parts[1]}")
            turns.append(parts[4])
    return Exchange(tuple(turns), tuple(speakers), number) if turns else Skipped(number, "no words", bad=False)


def looks_opensubtitles(head: str) -> bool:
    """Whether a file that begins so is subtitles as XML; lines of text could be anything."""
    return head.lstrip().startswith("<?xml") and "<s id=" in head


def read_opensubtitles(source: Source) -> Iterator[Item]:
    """Stream the scenes of a file: XML as OPUS ships it, tokenised or not, or a sentence a line."""
    begin = next(chunks(source.path), b"").lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    source.dialect = "XML" if begin == b"<" else "lines of text"
    return _scenes_of_xml(source.path) if begin == b"<" else _scenes_of_lines(source.path)


def _scene(turns: list[str], line: int) -> Item:
    if len(turns) == 1:
        return Skipped(line, "a sentence alone", bad=False)
    return Exchange(tuple(turns), tuple(str(place % 2) for place in range(len(turns))), line)


def _scenes_of_lines(path: Path) -> Iterator[Item]:
    """A blank line ends a scene, and so does a great number of sentences."""
    turns: list[str] = []
    begin = 1
    for number, line in text_lines(path):
        if isinstance(line, Skipped):
            yield line
        elif line.strip():
            begin = begin if turns else number
            turns.append(line.strip())
        if turns and (len(turns) >= _SCENE_TURNS or (isinstance(line, str) and not line.strip())):
            yield _scene(turns, begin)
            turns = []
    if turns:
        yield _scene(turns, begin)


class _Sentences:
    """Gathers the sentences of the XML as it is parsed. A document type is refused: it can make text out of nothing."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, float | None, float | None]] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse
        self._words: list[str] | None = None
        self._size = 0
        self._spaced = False
        self._line = 0
        self._times: list[float] = []

    def _refuse(self, *_: object) -> None:
        raise UsageError("it has a document type, as no subtitles have")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "s":
            self._words, self._size, self._times, self._line = [], 0, [], self.parser.CurrentLineNumber
        elif name == "w" and self._words:
            self._words.append(" ")
        elif name == "time" and (clock := _CLOCK.search(attributes.get("value", ""))):
            hours, minutes, seconds, more = clock.groups()
            moment = int(hours[:3]) * 3600 + int(minutes[:3]) * 60 + int(seconds[:3]) + float(f"0.{(more or '0')[:6]}")
            self._times.append(moment)

    def _text(self, text: str) -> None:
        if self._words is not None and self._size <= MAX_TEXT_CHARS:
            self._words.append(text)
            self._size += len(text)

    def _end(self, name: str) -> None:
        if name == "s" and self._words is not None:
            text = " ".join("".join(self._words).split())
            times = self._times
            self.found.append((self._line, text, times[0] if times else None, times[-1] if times else None))
            self._words = None


def _scenes_of_xml(path: Path) -> Iterator[Item]:
    reader = _Sentences()
    turns: list[str] = []
    begin, last, fed = 1, None, 0
    broken: Skipped | None = None
    for chunk in chunks(path):
        fed += len(chunk)
        try:
            reader.parser.Parse(chunk)
        except expat.ExpatError as error:
            broken = Skipped(error.lineno, f"not XML from here on ({expat.ErrorString(error.code)})")
        except UsageError as error:
            raise UsageError(f"{path} is refused: {error}") from None
        if fed - reader.parser.CurrentByteIndex > MAX_LINE_BYTES:
            broken = Skipped(reader.parser.CurrentLineNumber, f"a tag of over {MAX_LINE_BYTES >> 20} MiB")
        for line, text, start, end in reader.found:
            pause = last is not None and start is not None and start - last > _SCENE_GAP_S
            if turns and (pause or len(turns) >= _SCENE_TURNS):
                yield _scene(turns, begin)
                turns = []
            if text:
                begin = begin if turns else line
                turns.append(text)
            last = end if end is not None else last
        reader.found.clear()
        if broken is not None:
            break
    if turns:
        yield _scene(turns, begin)
    if broken is not None:
        yield broken
    else:
        try:
            reader.parser.Parse(b"", True)
        except expat.ExpatError as error:
            yield Skipped(error.lineno, "the file ends in the middle")
