"""Candidates: the words that may stand in a word's place, by near embeddings or by a masked language model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfcompress.distillation.words import CASE_FORMS, EncodedText, Vocabulary, Word, whole_words
from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.linear import weight_of
from hfcompress.modeling.load import FIX_WEIGHTS, as_model_error, load_config
from hfcompress.sources import resolve

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Place = tuple[EncodedText, Word]
Candidates = Callable[[Sequence[Place]], list[list[str]]]
"""Gives for each word in its text the words that may replace it."""

WINDOW = 128
"""Tokens around a masked word that the language model reads: more say little about one word, and take long."""

_QUERIES = 256
"""Words compared with the vocabulary at a time, which bounds the memory."""


class NearestWords:
    """The whole words whose input embeddings are nearest to a word's by cosine; of several pieces, to their mean.

    Args:
        embeddings: The model's input embeddings `(vocabulary, width)`.
        vocabulary: The words to choose among.
        count: How many for each word.
    """

    def __init__(self, embeddings: Tensor, vocabulary: Vocabulary, count: int) -> None:
        self.embeddings = embeddings
        self.vocabulary = vocabulary
        self.count = count
        self._words = nn.functional.normalize(self.embeddings[vocabulary.ids], dim=-1)

    def __call__(self, places: Sequence[Place]) -> list[list[str]]:
        """Return the candidates for each word."""
        words = {(word.pieces, word.text): word for _, word in places}
        found: dict[Any, list[str]] = {}
        keys = list(words)
        for start in range(0, len(keys), _QUERIES):
            some = keys[start : start + _QUERIES]
            queries = torch.stack([self.embeddings[list(pieces)].mean(0) for pieces, _ in some])
            # The length of the query does not change the order.
            ranked = _best(queries @ self._words.T, self.count)
            found |= {
                key: self.vocabulary.choose(best, words[key], self.count)
                for key, best in zip(some, ranked, strict=True)
            }
        return [found[word.pieces, word.text] for _, word in places]


class ProbableWords:
    """The most probable whole words of a masked language model at a word's place; words of several pieces: the nearest.

    Args:
        model: With a trained head for masked language modelling.
        tokenizer: Its tokenizer, which has a mask token.
        vocabulary: The words to choose among.
        count: How many for each word.
        batch_size: Masked texts in one forward pass.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: Vocabulary,
        count: int,
        batch_size: int = 64,
    ) -> None:
        self.model = model.eval()
        self.mask, self.pad = tokenizer.mask_token_id, tokenizer.pad_token_id
        self.window = min(WINDOW, tokenizer.model_max_length)
        self.vocabulary = vocabulary
        self.count = count
        self.batch_size = batch_size
        self.nearest = NearestWords(input_embeddings(model), vocabulary, count)

    def __call__(self, places: Sequence[Place]) -> list[list[str]]:
        """Return the candidates for each word."""
        single = [index for index, (_, word) in enumerate(places) if len(word.pieces) == 1]
        several = [index for index, (_, word) in enumerate(places) if len(word.pieces) > 1]
        found = dict(zip(several, self.nearest([places[index] for index in several]), strict=True))
        masked = {index: self._masked(*places[index]) for index in single}
        # By length, which saves most of the padding.
        single.sort(key=lambda index: len(masked[index][0]))
        for start in range(0, len(single), self.batch_size):
            some = single[start : start + self.batch_size]
            ranked = _best(self._logits([masked[index] for index in some]), self.count)
            for index, best in zip(some, ranked, strict=True):
                found[index] = self.vocabulary.choose(best, places[index][1], self.count)
        return [found[index] for index in range(len(places))]

    def _masked(self, text: EncodedText, word: Word) -> tuple[list[int], int]:
        """Return the tokens around a word with the word masked, and where the mask stands in them."""
        inner_end = len(text.ids) - text.after
        room = self.window - text.before - text.after
        start = max(text.before, min(word.position - room // 2, inner_end - room))
        inner = text.ids[start : min(start + room, inner_end)]
        ids = [*text.ids[: text.before], *inner, *text.ids[inner_end:]]
        place = text.before + word.position - start
        ids[place] = self.mask
        return ids, place

    @torch.inference_mode()
    def _logits(self, masked: Sequence[tuple[list[int], int]]) -> Tensor:
        """Return the logits `(batch, words)` of the vocabulary's words at the masks."""
        longest = max(len(ids) for ids, _ in masked)
        ids = torch.tensor([[*ids, *[self.pad] * (longest - len(ids))] for ids, _ in masked])
        lengths = torch.tensor([[len(ids)] for ids, _ in masked])
        positions = torch.tensor([place for _, place in masked])
        attention_mask = (torch.arange(longest) < lengths).long()
        with _head_only_at(self.model, positions):
            device = self.model.device
            logits = self.model(input_ids=ids.to(device), attention_mask=attention_mask.to(device)).logits
        return logits[:, 0, self.vocabulary.ids].float()


def load_candidates(
    source: str, tokenizer: PreTrainedTokenizerBase, method: str, count: int, batch_size: int = 64
) -> tuple[Candidates, str]:
    """Load a model and return what finds candidates with it, and a fingerprint of the weights that decide them.

    Args:
        source: Hub id, folder or short name.
        tokenizer: The model's.
        method: `embedding` or `masked-lm`.
        count: Candidates for each word.
        batch_size: Masked texts in one forward pass.

    Raises:
        ModelError: Its weights cannot be used, do not fit the tokenizer, or its head would be random.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    is_masked = method == "masked-lm"
    if is_masked and tokenizer.mask_token_id is None:
        raise ModelError(Fault(source, "its tokenizer has no mask token.", "Use --method embedding."))
    model = _load(source, "AutoModelForMaskedLM" if is_masked else "AutoModel")
    embeddings = input_embeddings(model)
    largest = max(tokenizer.get_vocab().values())
    if largest >= len(embeddings):
        problem = f"its tokenizer counts to {largest}, but it has only {len(embeddings)} embeddings."
        raise ModelError(Fault(source, problem, "Use the tokenizer that it was trained with."))
    vocabulary = whole_words(tokenizer)
    if not vocabulary.ids:
        raise ModelError(Fault(source, "its vocabulary holds no whole words.", "Choose a model that reads words."))
    decisive = dict(model.state_dict()) if is_masked else {"embeddings": embeddings}
    found = (
        ProbableWords(model, tokenizer, vocabulary, count, batch_size)
        if is_masked
        else NearestWords(embeddings, vocabulary, count)
    )
    return found, _fingerprint(decisive, vocabulary)


def input_embeddings(model: PreTrainedModel) -> Tensor:
    """Return a model's input embeddings `(vocabulary, width)`."""
    return weight_of(model.get_input_embeddings()).detach()


def _load(source: str, auto_class: str) -> PreTrainedModel:
    """Load a model in float32, from safetensors only; refuse random weights.

    Raises:
        ModelError: The weights are missing, in part or all, of another shape, or a pickle.
    """
    import transformers

    config = load_config(source)
    with as_model_error(source, "its weights cannot be used", FIX_WEIGHTS):
        model, report = getattr(transformers, auto_class).from_pretrained(
            resolve(source),
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    # A pooler says nothing about words.
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing and auto_class == "AutoModelForMaskedLM":
        problem = (
            f"has no trained head for masked language modelling ({missing[0]} is missing): its words would be random."
        )
        raise ModelError(Fault(source, problem, "Use --method embedding, or a checkpoint such as bert-base."))
    if missing:
        fix = "Use the config.json that they were saved with, or download them again."
        raise ModelError(Fault(source, f"its weights lack {missing[0]}.", fix))
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _head_only_at(model: PreTrainedModel, positions: Tensor) -> Iterator[None]:
    """Let a model's head see one token of each text, which saves a product with the vocabulary for all others.

    Args:
        model: With `base_model` below a head that treats each token alone.
        positions: The token `(batch,)`.
    """

    def gather(module: nn.Module, inputs: Any, output: Any) -> Any:
        hidden = output[0]
        output.last_hidden_state = hidden[torch.arange(len(hidden)), positions.to(hidden.device)].unsqueeze(1)
        return output

    handle = model.base_model.register_forward_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def _best(scores: Tensor, count: int) -> list[list[int]]:
    """Return the indices of the highest scores `(rows, words)`, enough to leave the word itself and its forms out."""
    return scores.topk(min(CASE_FORMS * (count + 1), scores.shape[1])).indices.tolist()


def _fingerprint(weights: dict[str, Tensor], vocabulary: Vocabulary) -> str:
    digest = hashlib.sha256(repr(vocabulary).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
