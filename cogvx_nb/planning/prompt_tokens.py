"""How a checkpoint's tokenizer reads a text: how much of it, and which words it doesn't know.

The end token, which every text has, is counted nowhere: it takes one of the checkpoint's tokens.
"""

from __future__ import annotations

import difflib
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelCorrupt
from ..imports import importing
from ..paths import read_json
from ..text import error_line, plain_line

MOST_NAMED = 8
"""Unknown words that are named."""

KNOWN, UNKNOWN, CUT = "known", "unknown", "cut"
"""Kinds of spans: read, not in the vocabulary, beyond the last token that is read."""

LARGE_VOCABULARY = 5_000
"""Tokens from which on nothing near is looked for: so large a vocabulary spells every Latin word,
and what it doesn't know is of another script."""

NEAR_RATIO = 0.75
"""Least ``difflib.SequenceMatcher.ratio`` of a near word: one letter of four is wrong."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of a prompt."""

    count: int
    limit: int  # most tokens that the checkpoint reads
    unknown: int  # unknown tokens
    unknown_words: tuple[str, ...]  # their texts, each once, in order
    unknown_share: float  # of the prompt, 0 … 1, by tokens or by characters, whichever is more:
    # T5 makes one token of a whole unknown sentence
    cut: str  # end of the prompt beyond the limit, which has no effect; empty if it fits


@functools.lru_cache(maxsize=256)  # sweeps repeat a prompt by the thousand
def count_tokens(folder: Path, limit: int, text: str) -> Tokens:
    """Count the tokens of a text.

    Args:
        folder: of the checkpoint.
        limit: most tokens that the checkpoint reads, the end token included.

    Raises:
        ModelCorrupt: if the tokenizer can't be loaded.
    """
    tokens, limit = _tokens(folder, text), limit - 1
    words: dict[bool, list[str]] = {True: [], False: []}
    for start, end, unknown in tokens:
        if start < end:  # not a bare space
            words[unknown].append(text[start:end])
    unknown, known = words[True], words[False]
    cut = text[tokens[limit][0] :].strip() if len(tokens) > limit else ""
    lengths = [sum(map(len, part)) for part in (unknown, known)]
    share = max(_share(len(unknown), len(known)), _share(*lengths))
    names = tuple(dict.fromkeys(unknown))
    return Tokens(len(tokens), limit, len(unknown), names, share, cut)


def _tokens(folder: Path, text: str) -> list[tuple[int, int, bool]]:
    """(start, end, whether it is unknown) of each token of a text, without blanks around it."""
    tokenizer = load_tokenizer(folder)
    encoded = tokenizer(text, return_offsets_mapping=True, verbose=False)
    pairs = zip(encoded.input_ids[:-1], encoded.offset_mapping, strict=False)  # not the end token
    tokens = []
    for token, (start, end) in pairs:
        word = text[start:end]
        start += len(word) - len(word.lstrip())
        tokens.append((start, start + len(word.strip()), token == tokenizer.unk_token_id))
    return tokens


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text that the tokenizer reads as one token."""

    start: int  # in UTF-16 units, by which JavaScript counts
    end: int
    kind: str  # KNOWN, UNKNOWN or CUT
    near: str = ""  # of an unknown word: the nearest known one, if any is near


def read_spans(folder: Path, limit: int, text: str) -> tuple[Span, ...]:
    """The tokens of a text in their order; blanks between them belong to none.

    Args:
        limit: most tokens that the checkpoint reads, the end token included.

    Raises:
        ModelCorrupt: if the tokenizer can't be loaded.
    """
    units = (2 if character > "\uffff" else 1 for character in text)
    offsets = list(itertools.accumulate(units, initial=0))
    spans, looked_for = [], set()
    for number, (start, end, unknown) in enumerate(_tokens(folder, text), 1):
        if start == end:
            continue
        kind, near = UNKNOWN if unknown else KNOWN, ""
        if number >= limit:
            kind = CUT
        elif unknown and len(looked_for | {text[start:end]}) <= MOST_NAMED:
            looked_for.add(text[start:end])
            near = nearest_word(folder, text[start:end])
        spans.append(Span(offsets[start], offsets[end], kind, near))
    return tuple(spans)


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part else 0.0


def name_words(folder: Path, words: Sequence[str]) -> str:
    """Unknown words for a person, with the nearest known ones of the checkpoint in a folder.

    Raises:
        ModelCorrupt: if the tokenizer can't be loaded.
    """
    named = [_named(folder, word) for word in words[:MOST_NAMED]]
    more = len(words) - MOST_NAMED
    return ", ".join(named + [f"{more} more"] * (more > 0))


@functools.lru_cache(maxsize=256)
def _named(folder: Path, word: str) -> str:
    line = plain_line(word[:31])  # escapes take ten characters each
    shown = f"'{line}'" if len(line) <= 30 else f"'{line[:30]}…'"
    near = nearest_word(folder, word)
    return f"{shown} (did you mean '{near}'?)" if near else shown


@functools.lru_cache(maxsize=1024)
def nearest_word(folder: Path, word: str) -> str:
    """The known word nearest to an unknown one; empty if none is near, or the vocabulary is large.

    Raises:
        ModelCorrupt: if the tokenizer can't be loaded.
    """
    known = _known_words(folder) if len(word) <= 30 else ()
    alike = [other for other in known if abs(len(other) - len(word)) <= 1]
    near = difflib.get_close_matches(word.casefold(), alike, 1, NEAR_RATIO)
    return near[0] if near else ""


@functools.lru_cache(maxsize=4)
def _known_words(folder: Path) -> tuple[str, ...]:
    """The words of three letters or more of a small vocabulary."""
    vocabulary = load_tokenizer(folder).get_vocab()
    if len(vocabulary) > LARGE_VOCABULARY:
        return ()
    words = (token.removeprefix("\N{LOWER ONE EIGHTH BLOCK}") for token in vocabulary)
    return tuple(sorted(word for word in words if len(word) >= 3 and word.isalpha()))


TOKENIZERS = ("T5Tokenizer", "T5TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes of transformers for the family's tokenizers. Others, such as ``AutoTokenizer``, can run
code that is stored beside the files."""


@functools.lru_cache(maxsize=4)
def load_tokenizer(folder: Path):
    """The tokenizer of the checkpoint in a folder, of the class that its ``model_index.json``
    names. Threads may call it at once.

    Raises:
        ModelCorrupt: if it can't be loaded.
    """
    with importing:
        return _load_tokenizer(folder)


def _load_tokenizer(folder: Path):
    import transformers

    index, path = folder / "model_index.json", folder / "tokenizer"
    try:
        library, name = read_json(index)["tokenizer"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelCorrupt(f"{index} can't be read: fetch it again") from error
    if library != "transformers" or name not in TOKENIZERS:
        raise ModelCorrupt(f"{index} names no known tokenizer: {name!r}")
    try:
        tokenizer = getattr(transformers, name).from_pretrained(path, local_files_only=True)
    except Exception as error:  # the library raises whatever its parsers do
        line = f"{path} can't be loaded: fetch it again ({error_line(error):.160})"
        raise ModelCorrupt(line) from error
    if tokenizer.pad_token is None or tokenizer.eos_token is None:
        raise ModelCorrupt(f"{path} has no token for padding or the end: fetch it again")
    return tokenizer
