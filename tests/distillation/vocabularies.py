"""Tiny tokenizers of the kinds that differ in how they mark what is a whole word."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece(words, lowercase=True):
    """As BERT's: pieces inside words begin with ##."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    core.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    return _wrap(core)


def byte_level(words):
    """As RoBERTa's: words after a space begin with Ġ; all else is letters."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL, *letters]
    merges = []
    for word in words:
        merged = "Ġ"
        for letter in word:
            if merged + letter not in tokens:
                merges.append((merged, letter))
                tokens.append(merged + letter)
            merged += letter
    core = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return _wrap(core)


def unigram(words):
    """As XLM-R's: words begin with ▁, and the tokenizer cuts at spaces alone."""
    pieces = [*SPECIAL, "▁", *(f"▁{word}" for word in words), *"abcdefghijklmnopqrstuvwxyz.,'-"]
    core = Tokenizer(models.Unigram([(piece, -1.0 * max(1, 9 - len(piece))) for piece in pieces], unk_id=1))
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    core.decoder = decoders.Metaspace()
    return _wrap(core)


def _wrap(core):
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=64, **special)
