"""Data augmentation after TinyBERT: variants of texts in which some words are replaced, without labels."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from tqdm.auto import tqdm

from hfcompress._version import __version__
from hfcompress.config import option
from hfcompress.data import ORIGIN_COLUMN
from hfcompress.distillation.candidates import Candidates, load_candidates
from hfcompress.distillation.partial_lines import PartialLines, refuse_output_file
from hfcompress.distillation.words import EncodedText, encode_texts
from hfcompress.errors import InterruptedByUserError
from hfcompress.folders import owned, require_space
from hfcompress.modeling.load import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = tuple[str, ...]
"""The texts of one row: one, or the two of a pair."""

CHUNK = 16
"""Rows worked on together: what a stopped run may lose. Always the same ones, so that a resumed run makes the same
batches, and with them the same numbers, as an uninterrupted one."""


@dataclass
class AugmentConfig:
    """How the variants are made."""

    copies: Annotated[int, Ge(1)] = option(10, help="variants of each text; those that come out alike are written once")
    replace_probability: Annotated[float, Gt(0), Le(1)] = option(0.4, help="probability that a word is replaced")
    candidates: Annotated[int, Ge(1)] = option(15, help="a word is replaced by one of so many")
    method: Literal["embedding", "masked-lm"] = option(
        "embedding",
        help="embedding: the words nearest in the model's input embeddings; masked-lm: the most probable ones where "
        "the word is masked (slower, reads better, needs a model with a masked language modelling head)",
    )
    batch_size: Annotated[int, Ge(1)] = option(64, help="masked texts in one forward pass")


@dataclass(frozen=True)
class Augmented:
    """What was written.

    Args:
        rows: Rows that variants were made of.
        variants: Lines in the file.
        dropped: Variants that equalled their original or another variant of it.
        seconds: Time of this run.
        rows_before: Rows that an earlier, stopped run had done.
        examples: The first variants, each with its original.
    """

    rows: int
    variants: int
    dropped: int
    seconds: float
    rows_before: int
    examples: list[tuple[Row, Row]]


def augment(
    rows: Sequence[Row],
    model: str,
    output_file: Path,
    config: AugmentConfig | None = None,
    seed: int = 42,
    overwrite: bool = False,
    progress: bool = True,
) -> Augmented:
    """Write variants of texts as JSON lines with the columns `text` and, for pairs, `text_pair`.

    For each copy of a row and each word of it: with the probability `replace_probability` the word is replaced by one
    of its candidates, chosen at random. Candidates are found once for each word, in the original text. TinyBERT
    (https://arxiv.org/abs/1909.10351, Algorithm 1; p_t = 0.4, N_a = 20, K = 15) takes the K most probable words of a
    masked language model where the word is one piece, and the K nearest GloVe words where it is several; in place of
    GloVe, `masked-lm` compares the mean of the pieces' input embeddings with those of whole words. `embedding` does so
    for every word. The texts of a pair are varied one by one.

    There are no labels in the file: another word may turn the meaning, and only a teacher can say what holds then.
    The column `augmented_from` holds the original's first text, so that variants of rows that are held out are left out
    when the file is read as unlabelled text. A stopped run goes on where it stood when it is called again.

    Args:
        rows: The texts.
        model: Hub id, folder or short name of the model that finds the candidates.
        output_file: A `.jsonl` file; it appears whole or not at all.
        config: How the variants are made.
        seed: Decides which words are replaced, and by which candidate.
        overwrite: Replace an existing file once the new one is complete.
        progress: Show a progress bar on stderr.

    Raises:
        OutputInUseError: Another run writes the file.
        OutputExistsError: The file is there already, or a stopped run with another request left its part.
        ModelError: The model cannot be used, or has no trained head for masked language modelling.
        NetworkError: It would have to come from the Hub, which cannot be reached.
        DiskSpaceError: The disk lacks room for the file.
        InterruptedByUserError: Ctrl-C; finished rows are kept.
    """
    config = config or AugmentConfig()
    started = time.perf_counter()
    refuse_output_file(output_file, overwrite)
    require_space(output_file.parent, output_bytes(rows, config))
    with owned(output_file):
        return _augment(rows, model, output_file, config, seed, overwrite, progress, started)


def _augment(
    rows: Sequence[Row],
    model: str,
    output_file: Path,
    config: AugmentConfig,
    seed: int,
    overwrite: bool,
    progress: bool,
    started: float,
) -> Augmented:
    """Write the variants to a file that belongs to this run alone."""
    tokenizer = load_tokenizer(model)
    find, weights = load_candidates(model, tokenizer, config.method, config.candidates, config.batch_size)
    partial = PartialLines(output_file)
    before = min(partial.open(_fingerprint(rows, weights, config, seed), overwrite) * CHUNK, len(rows))
    _write_parts(partial, augment_rows(rows, tokenizer, find, config, seed, before), before, len(rows), progress)
    examples = [(row, tuple(made[0])) for row, made in zip(rows, next(partial.parts(), []), strict=False) if made][:3]
    originals = iter(rows)
    variants = partial.finish(
        lambda part: [_line(variant, row) for made, row in zip(part, originals, strict=False) for variant in made]
    )
    seconds = time.perf_counter() - started
    return Augmented(len(rows), variants, len(rows) * config.copies - variants, seconds, before, examples)


def augment_rows(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    find: Candidates,
    config: AugmentConfig,
    seed: int,
    start: int = 0,
) -> Iterator[list[list[Row]]]:
    """Make the variants of rows, a chunk of rows at a time.

    Args:
        rows: The texts.
        tokenizer: Says what a word is.
        find: Finds the candidates.
        config: How the variants are made.
        seed: Each copy of each row has its own random numbers, from the seed and both numbers.
        start: The first row to work on, a multiple of `CHUNK`.

    Yields:
        For each row of a chunk its variants, which differ from it and from each other.
    """
    for first in range(start, len(rows), CHUNK):
        chunk = rows[first : first + CHUNK]
        encoded = iter(encode_texts([text for row in chunk for text in row], tokenizer))
        jobs = []
        for number, row in enumerate(chunk, first):
            texts = [next(encoded) for _ in row]
            count = sum(len(text.words) for text in texts)
            jobs.append((texts, [_draw(count, config, (seed, number, copy)) for copy in range(config.copies)]))
        yield _vary(jobs, find)


def output_bytes(rows: Sequence[Row], config: AugmentConfig) -> int:
    """Return about how many bytes the variants of rows need: twice over, while the parts become the file."""
    return 2 * config.copies * sum(2 * len(text.encode()) + 32 for row in rows for text in row)


Draw = list[float | None]
"""For each word of a row: None where it stays, else a number from 0 to 1 that chooses among its candidates."""


def _draw(count: int, config: AugmentConfig, key: tuple[int, int, int]) -> Draw:
    random = np.random.default_rng(key)
    replaced = random.random(count) < config.replace_probability
    return [float(pick) if chosen else None for chosen, pick in zip(replaced, random.random(count), strict=True)]


def _vary(jobs: list[tuple[list[EncodedText], list[Draw]]], find: Candidates) -> list[list[Row]]:
    """Make the variants of some rows; candidates are looked up for those words alone that a copy replaces."""
    places = [[(text, word) for text in texts for word in text.words] for texts, _ in jobs]
    wanted = [
        [index for index in range(len(own)) if any(draw[index] is not None for draw in draws)]
        for own, (_, draws) in zip(places, jobs, strict=True)
    ]
    found = iter(find([own[index] for own, indices in zip(places, wanted, strict=True) for index in indices]))
    made = []
    for (texts, draws), indices in zip(jobs, wanted, strict=True):
        candidates = {index: next(found) for index in indices}
        variants = dict.fromkeys(_variant(texts, draw, candidates) for draw in draws)
        variants.pop(tuple(text.text for text in texts), None)
        made.append(list(variants))
    return made


def _variant(texts: list[EncodedText], draw: Draw, candidates: dict[int, list[str]]) -> Row:
    chosen = iter(
        None if pick is None or not candidates[index] else candidates[index][int(pick * len(candidates[index]))]
        for index, pick in enumerate(draw)
    )
    return tuple(text.replace([next(chosen) for _ in text.words]) for text in texts)


def _write_parts(
    partial: PartialLines, chunks: Iterator[list[list[Row]]], before: int, total: int, progress: bool
) -> None:
    """Keep chunk after chunk.

    Raises:
        InterruptedByUserError: Ctrl-C; says where it stands.
    """
    with tqdm(total=total, initial=before, desc="augment", unit="row", disable=not progress, file=sys.stderr) as bar:
        done = before
        try:
            for chunk in chunks:
                partial.append(chunk)
                done += len(chunk)
                bar.update(len(chunk))
        except KeyboardInterrupt:
            bar.close()
            raise InterruptedByUserError(
                f"Stopped after {done} of {total} rows, which are kept in {partial.path}. "
                "Run the same command again to go on from there."
            ) from None


def _line(variant: Sequence[str], original: Row) -> dict[str, str]:
    return {**dict(zip(("text", "text_pair"), variant, strict=False)), ORIGIN_COLUMN: original[0]}


def _fingerprint(rows: Sequence[Row], weights: str, config: AugmentConfig, seed: int) -> str:
    """Return what tells whether a stopped run would have written the same."""
    digest = hashlib.sha256(repr((__version__, weights, asdict(config), seed)).encode())
    for row in rows:
        digest.update(repr(row).encode())
    return digest.hexdigest()
