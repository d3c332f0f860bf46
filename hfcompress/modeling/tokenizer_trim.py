"""A tokenizer rebuilt with fewer pieces: the same roles, the same rules, new numbers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.subwords import Subwords, pair_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

State = dict[str, Any]


def require_rebuildable(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer whose pieces cannot be taken away.

    Raises:
        ModelError: It is one of the slow ones.
    """
    if not tokenizer.is_fast:
        problem = f"{type(tokenizer).__name__} is a slow tokenizer, whose vocabulary cannot be rebuilt."
        fix = "Use the fast one: `AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder)`."
        raise ModelError(Fault("tokenizer", problem, fix))


def state_of(tokenizer: PreTrainedTokenizerBase) -> State:
    """Return all that a fast tokenizer is made of, as its tokenizer.json holds it."""
    state: State = json.loads(tokenizer.backend_tokenizer.to_str())
    return state


def role_ids(tokenizer: PreTrainedTokenizerBase, state: State) -> set[int]:
    """Return the numbers of tokens that do more than stand for text: special, added, and what texts are wrapped in."""
    found = {int(token["id"]) for token in state["added_tokens"]} | set(tokenizer.all_special_ids)

    def note(number: int) -> int:
        found.add(number)
        return number

    _change_ids(copy.deepcopy(state["post_processor"]), note)
    return found


def trim_tokenizer(
    tokenizer: PreTrainedTokenizerBase, kept: Collection[int]
) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """Return a tokenizer that knows some of a tokenizer's tokens.

    Tokens with a role keep their number where there is room below, the others follow in their old order. BPE keeps
    every merge whose two parts and result are kept. The new tokenizer was saved and loaded again.

    Args:
        tokenizer: A fast one; it is left as it is.
        kept: The numbers of the tokens to keep; those with a role are kept in any case.

    Returns:
        The tokenizer, and the old number of each token in the order of the new ones.

    Raises:
        ModelError: It is a slow tokenizer, or one that cannot be rebuilt.
    """
    require_rebuildable(tokenizer)
    state = state_of(tokenizer)
    roles = role_ids(tokenizer, state)
    order = _order(state, roles, {*kept, *roles})
    numbers = {old: new for new, old in enumerate(order)}
    wanted = {token: numbers[old] for token, old in tokenizer.get_vocab().items() if old in numbers}
    rebuilt = _reloaded(tokenizer, _core(_renumbered(state, numbers)))
    if rebuilt.get_vocab() != wanted:
        problem = f"{type(tokenizer).__name__} does not take a smaller vocabulary: it gives its tokens other numbers."
        raise ModelError(Fault("tokenizer", problem, "Save it as a PreTrainedTokenizerFast, which takes any."))
    return rebuilt, order


def _order(state: State, roles: set[int], kept: set[int]) -> list[int]:
    """Return the old numbers in the order of the new ones.

    Pieces come first and other added tokens last: `tokenizers` numbers those by itself, from the number of pieces on.
    """
    ids = Subwords.of(state["model"]).ids
    pieces = sorted(kept.intersection(ids.values()))
    # Some models and tokenizers have numbers of special tokens written into their code.
    fixed = roles.intersection(number for number in pieces if number < len(pieces))
    movable = iter(number for number in pieces if number not in fixed)
    order = [place if place in fixed else next(movable) for place in range(len(pieces))]
    return order + sorted(int(token["id"]) for token in state["added_tokens"] if token["content"] not in ids)


def _renumbered(state: State, numbers: Mapping[int, int]) -> State:
    """Return a tokenizer's state with the tokens in `numbers` alone, under their new numbers."""
    new = copy.deepcopy(state)
    model = new["model"]
    vocabulary = model["vocab"]
    if model["type"] == "Unigram":
        places = {new: old for old, new in numbers.items() if old < len(vocabulary)}
        model["vocab"] = [vocabulary[places[place]] for place in range(len(places))]
        model["unk_id"] = None if model.get("unk_id") is None else numbers[model["unk_id"]]
    else:
        model["vocab"] = {piece: numbers[old] for piece, old in vocabulary.items() if old in numbers}
    if model["type"] == "BPE":
        pieces = Subwords.of(model)
        pairs = ((merge, pair_of(merge)) for merge in model["merges"])
        model["merges"] = [
            merge for merge, pair in pairs if all(piece in pieces.ids for piece in (*pair, pieces.merged(*pair)))
        ]
    added = ({**token, "id": numbers[token["id"]]} for token in new["added_tokens"])
    new["added_tokens"] = sorted(added, key=lambda token: int(token["id"]))
    _change_ids(new["post_processor"], numbers.__getitem__)
    if new["padding"] is not None:
        new["padding"]["pad_id"] = numbers.get(new["padding"]["pad_id"], 0)
    return new


def _change_ids(processor: State | None, change: Callable[[int], int]) -> None:
    """Change every number of a token in a post-processor, in place."""
    if processor is None:
        return
    for part in processor.get("processors", ()):
        _change_ids(part, change)
    if processor["type"] == "TemplateProcessing":
        for entry in processor["special_tokens"].values():
            entry["ids"] = [change(number) for number in entry["ids"]]
    for name in ("cls", "sep"):  # BERT's and RoBERTa's own processors
        if name in processor:
            token, number = processor[name]
            processor[name] = [token, change(number)]


def _core(state: State) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(state))


def _reloaded(tokenizer: PreTrainedTokenizerBase, core: Tokenizer) -> PreTrainedTokenizerBase:
    """Return a tokenizer of the same class around another core, as it is when it was saved and loaded again."""
    changed: Any = copy.copy(tokenizer)
    changed._tokenizer = core
    changed.vocab_file = None  # SentencePiece's file of the old pieces, which would be copied
    with TemporaryDirectory() as folder:
        changed.save_pretrained(folder)
        found: PreTrainedTokenizerBase = type(tokenizer).from_pretrained(folder, trust_remote_code=False)
    found.name_or_path = tokenizer.name_or_path
    return found
