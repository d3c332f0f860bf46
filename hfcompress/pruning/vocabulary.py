"""Vocabulary trimming: the tokens that a corpus uses stay, the rows of all others leave the model."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from hfcompress.config import option
from hfcompress.context import Context
from hfcompress.errors import DataError, Fault, ModelError, RequestError
from hfcompress.modeling.subwords import Subwords
from hfcompress.modeling.tokenizer_trim import require_rebuildable, role_ids, state_of, trim_tokenizer
from hfcompress.modeling.vocabulary import keep_rows, named_tokens, require_vocabulary
from hfcompress.pruning.corpus import Reader, Text, read_texts, texts_of
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


@dataclass
class VocabularyConfig:
    """Which texts decide, and what else stays."""

    corpus: list[str] = option(
        [],
        help="more texts to keep the tokens of: files (txt: one a line; csv, json, jsonl, parquet), folders, Hub ids",
    )
    corpus_column: str | None = option(None, help="their column with the text (default: text, sentence, …)")
    use_validation: bool = option(
        False, help="keep what the held-out rows use too; they then say nothing about unseen texts"
    )
    min_count: Annotated[int, Ge(1)] = option(1, help="keep tokens that stand in the corpus at least so often")
    size: Annotated[int, Ge(1)] | None = option(
        None, help="keep at most so many tokens, the most frequent ones (default: all that are used)"
    )
    keep: list[str] = option([], help="words or tokens to keep in any case")
    fallback: bool = option(
        True, help="keep single characters or bytes, so that a new word is split instead of becoming unknown"
    )
    multiple_of: Annotated[int, Ge(1)] = option(
        8, help="fill up with further tokens to a multiple of this number, unless `size` is given"
    )

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: Both a size and a count are given.
        """
        if self.size is not None and self.min_count > 1:
            raise RequestError(Fault("size", f"cannot stand beside min_count={self.min_count}.", "Give either."))


def plan(config: VocabularyConfig, model_config: PretrainedConfig, earlier: Mapping[str, Any]) -> PretrainedConfig:
    """Return the model's config with the size that was asked for; what a corpus uses is not known before it is read."""
    rows = require_vocabulary(model_config)
    small = copy.deepcopy(model_config)
    small.vocab_size = min(rows, config.size or rows)
    return small


@register("pruning", "vocabulary", VocabularyConfig, plan)
def vocabulary(model: PreTrainedModel, config: VocabularyConfig, context: Context) -> PreTrainedModel:
    """Keep the tokens that a corpus uses: the tokenizer is rebuilt, the embeddings' other rows are removed.

    The corpus is the training rows, those without labels, and `corpus`; what is held out does not decide. Every text of
    it is read again with the new tokenizer: it gives the same pieces, so that classification, tagging and embeddings
    are the same. Heads over words give the same logits for the words that are left; their probabilities are those of
    before, divided by the share that these words had (greedy decoding that only met kept words is the same; beam search
    and sampling compare probabilities, which have grown). With `min_count` or `size` that holds for the texts of which
    all tokens stay; the others fall into smaller pieces.

    Raises:
        ModelError: The model has no vocabulary, its tokenizer is a slow one, or the two do not belong together.
        DataError: There is no text, or a file cannot be read.
        RequestError: `size` is below what must stay, or a word of `keep` has no token.
    """
    before = require_vocabulary(model.config)
    if not hasattr(context.processor, "get_vocab"):
        raise ModelError(Fault("model", "has no tokenizer, so there are no tokens to choose from."))
    require_rebuildable(context.processor)
    texts = _texts(config, context)
    trim = Trim(context.processor, model, config, texts)
    tokenizer, rows = trim.run()
    parameters = model.num_parameters()
    keep_rows(model, rows)
    context.processor = tokenizer
    covered = sum(trim.counts[number] for number in rows) / sum(trim.counts.values())
    logger.info(
        "kept %d of %d tokens (%d rows of the embeddings less, %d parameters less); they are %.2f %% of the corpus's; "
        "%d of %d texts are read in other pieces",
        len(tokenizer), len(trim.old), before - len(rows), parameters - model.num_parameters(), 100 * covered,
        trim.changed, len(texts),
    )  # fmt: skip
    return model


class Trim:
    """One choice of tokens.

    Args:
        tokenizer: A fast one.
        model: Its table says which tokens can stay; its configs name some that must.
        config: What is kept.
        texts: The corpus.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, config: VocabularyConfig, texts: list[Text]
    ) -> None:
        self.old, self.config, self.texts = tokenizer, config, texts
        self.rows = require_vocabulary(model.config)
        state = state_of(tokenizer)
        self.subwords = Subwords.of(state["model"])
        self.pieces = {number: piece for piece, number in self.subwords.ids.items()}
        self.reader = Reader(tokenizer)
        self.counts = Counter(token for tokens in self.reader.read(texts) for token in tokens)
        self.roles = role_ids(tokenizer, state)
        known = set(tokenizer.get_vocab().values())
        named = named_tokens(model)
        self.nameless = sorted(named - known)
        self.must = self.roles | (named & known) | self._ids(self.subwords.always)
        self.changed = 0

    def run(self) -> tuple[PreTrainedTokenizerBase, list[int]]:
        """Return the new tokenizer, and the rows of the model in their new order.

        Raises:
            ModelError: The model has no row for a token that must stay, or texts are read in other pieces after all.
        """
        kept = self.choose()
        while True:
            tokenizer, order = trim_tokenizer(self.old, kept)
            different = self._different(tokenizer, order)
            missing = self._ids(
                piece for text in different for word in self.reader.words(text) for piece in self.subwords.inside(word)
            )
            if not different:
                return tokenizer, order + self.nameless
            if missing <= kept:
                problem = f"reads {len(different)} texts in other pieces, for example {different[0]!r:.80}."
                raise ModelError(Fault("tokenizer", problem, "Choose a larger vocabulary."))
            kept |= self._closed(missing)

    def choose(self) -> set[int]:
        """Return the tokens to keep.

        Raises:
            ModelError: The model has no row for some of them.
            RequestError: `size` has no room for those that must stay, or a word of `keep` has no token.
        """
        kept = self._closed(self.must | self._wanted())
        if self.config.fallback:
            readable = (number for number in self._ids(self.subwords.fallback()) if number < self.rows)
            kept |= self._closed(readable)
        kept = self._fill(kept)
        beyond = sorted(number for number in kept if number >= self.rows)
        if beyond:
            tokens = ", ".join(map(repr, self.old.convert_ids_to_tokens(beyond[:3])))
            problem = f"the tokenizer's tokens {tokens} have no row in the model's embeddings of {self.rows}."
            fix = "Add rows first, and train them: `model.resize_token_embeddings(len(tokenizer))`."
            raise ModelError(Fault("tokenizer", problem, fix))
        return kept

    def _fill(self, kept: set[int]) -> set[int]:
        """Return what must stay with the tokens that the corpus uses, as many as there is room for."""
        kept, config, others = set(kept), self.config, len(self.nameless)
        used = {number for number, count in self.counts.items() if count >= config.min_count}
        if config.size is None:
            kept |= self._closed(used)
            room = -(len(kept) + others) % config.multiple_of
            candidates = {number for number in self.pieces if number < self.rows} - kept
        else:
            room = config.size - len(kept) - others
            candidates = used - kept
            if room < 0:
                problem = f"{config.size} tokens are fewer than the {config.size - room} that must stay."
                fix = "Special tokens, those of `keep` and, unless fallback=false, single characters stay: give more."
                raise RequestError(Fault("size", problem, fix))
        for number in sorted(candidates, key=self._usefulness) if room else ():
            more = self._closed([number]) - kept
            if len(more) <= room:
                kept |= more
                room -= len(more)
        return kept

    def _usefulness(self, number: int) -> tuple[int, int, int]:
        """Sort by frequency; of tokens as frequent, a short one stands in more words."""
        return -self.counts[number], len(self.pieces.get(number, "")), number

    def _wanted(self) -> set[int]:
        """Return the tokens of the words to keep, at the beginning of a text and inside it."""
        found: set[int] = set()
        faults = []
        everything = self.old.get_vocab()
        for word in self.config.keep:
            read = {token for tokens in self.reader.read([word, " " + word, (word,)]) for token in tokens} - self.roles
            if word in everything:
                read.add(everything[word])
            if not read:
                faults.append(Fault("keep", f"the tokenizer has no token for {word!r}.", "Leave it out."))
            found |= read
        if faults:
            raise RequestError(*faults)
        return found

    def _closed(self, numbers: Iterable[int]) -> set[int]:
        """Return tokens with those that are needed on the way to them."""
        found = set()
        for number in numbers:
            found.add(number)
            if number in self.pieces:
                found |= self._ids(self.subwords.needed(self.pieces[number]))
        return found

    def _ids(self, pieces: Iterable[str]) -> set[int]:
        return {self.subwords.ids[piece] for piece in pieces}

    def _different(self, tokenizer: PreTrainedTokenizerBase, order: list[int]) -> list[Text]:
        """Return the texts whose tokens were all kept and which are read in other pieces all the same."""
        numbers = {old: new for new, old in enumerate(order)}
        found = []
        self.changed = 0
        before, after = self.reader.read(self.texts), Reader(tokenizer).read(self.texts)
        for text, old, new in zip(self.texts, before, after, strict=True):
            if any(token not in numbers for token in old):
                self.changed += 1
            elif [numbers[token] for token in old] != new:
                found.append(text)
        return found


def _texts(config: VocabularyConfig, context: Context) -> list[Text]:
    """Return every text of the corpus once.

    Raises:
        DataError: There is none, or a file cannot be read.
    """
    found: dict[Text, None] = dict.fromkeys(texts_of(context.data.with_unlabeled))
    if config.use_validation:
        found.update(dict.fromkeys(texts_of(context.data.validation)))
    for source in config.corpus:
        found.update(dict.fromkeys(read_texts(source, config.corpus_column, context.task)))
    if not any("".join(text).strip() for text in found):
        raise DataError(
            Fault("corpus", "there is no text in it.", "Give training rows with text, or files as `corpus`.")
        )
    return list(found)
