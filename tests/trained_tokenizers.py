"""Tiny tokenizers of every kind, trained on a few sentences, as the classes that real models bring."""

import json
import tempfile
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.tiny import tiny_tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog, and nobody minded the noise.",
    "A surprisingly moving story: funny, warm and well acted from the first scene to the last.",
    "Unbelievably dull; its jokes are older than the actors who have to tell them!",
    "She sells sea shells by the sea shore, but he only sells shoes in the winter.",
    "Directors who respect their audience do not explain everything twice.",
    "The soundtrack, loud and repetitive, distracts from an otherwise thoughtful film.",
    "Running, runner, runs; walking, walker, walks; acting, actor, acts; telling, teller, tells.",
    "It was 1999 when the 2nd film of 37 came out, and 48 critics of 60 liked it.",
]
BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>", "cls": "<s>", "sep": "</s>"}
T5 = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
LLAMA = {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}


def _special(names):
    return list(dict.fromkeys(names.values()))


def _wordpiece():
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    _train(core, trainers.WordPieceTrainer(vocab_size=260, special_tokens=_special(BERT), show_progress=False))
    ids = [(token, core.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    core.post_processor = processors.BertProcessing(*ids)
    return core


def _byte_level():
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    special = _special(ROBERTA)
    trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=special, initial_alphabet=letters, show_progress=False)
    _train(core, trainer)
    core.post_processor = processors.RobertaProcessing(
        ("</s>", core.token_to_id("</s>")), ("<s>", core.token_to_id("<s>")), add_prefix_space=False
    )
    return core


def _sentencepiece_bpe():
    """As LLaMA's: `▁` for spaces, bytes for unknown characters, several merges that give the same piece."""
    core = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))  # noqa: S106
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    _train(core, trainers.BpeTrainer(vocab_size=250, special_tokens=_special(LLAMA), show_progress=False))
    state = json.loads(core.to_str())
    vocabulary = state["model"]["vocab"]
    for number in range(256):
        vocabulary[f"<0x{number:02X}>"] = len(vocabulary)
    every = [
        (vocabulary[piece], [piece[:cut], piece[cut:]])
        for piece in vocabulary
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    state["model"]["merges"] = [merge for _, merge in sorted(every)]
    core = Tokenizer.from_str(json.dumps(state))
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return core


def _unigram(special, unknown, single):
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=180, special_tokens=special, unk_token=unknown, show_progress=False)
    _train(core, trainer)
    ids = [(token, core.token_to_id(token)) for token in special if token in single]
    core.post_processor = processors.TemplateProcessing(single=single, pair=f"{single} $B", special_tokens=ids)
    return core


def _train(core, trainer):
    core.train_from_iterator([text for text in TEXTS for _ in range(3)], trainer)


_CORES = {
    "wordpiece": (_wordpiece, BERT),
    "byte-level": (_byte_level, ROBERTA),
    "sentencepiece-bpe": (_sentencepiece_bpe, LLAMA),
    "xlm-roberta": (lambda: _unigram(_special(ROBERTA), "<unk>", "<s> $A </s>"), ROBERTA),
    "t5": (lambda: _unigram(_special(T5), "<unk>", "$A </s>"), T5),
    "albert": (lambda: _unigram(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], "<unk>", "[CLS] $A [SEP]"), {}),
}
_CORES["albert"] = (_CORES["albert"][0], {**BERT, "pad": "<pad>", "unk": "<unk>"})

KINDS = ["wordpiece", "byte-level", "sentencepiece-bpe", "xlm-roberta", "t5", "albert", "wordlevel"]

CLASSES = {
    "BertTokenizerFast": "wordpiece",
    "DistilBertTokenizerFast": "wordpiece",
    "ElectraTokenizerFast": "wordpiece",
    "MobileBertTokenizerFast": "wordpiece",
    "SqueezeBertTokenizerFast": "wordpiece",
    "RobertaTokenizerFast": "byte-level",
    "BartTokenizerFast": "byte-level",
    "GPT2TokenizerFast": "byte-level",
    "LlamaTokenizerFast": "sentencepiece-bpe",
    "XLMRobertaTokenizerFast": "xlm-roberta",
    "T5TokenizerFast": "t5",
    "AlbertTokenizerFast": "albert",
}
"""The classes that real checkpoints name, and a core that fits each."""


@cache
def trained(kind):
    """A tokenizer of a kind, with an added token that is no special one, and one that is."""
    if kind == "wordlevel":
        return tiny_tokenizer()
    make, names = _CORES[kind]
    special = {f"{name}_token": token for name, token in names.items()}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=make(), model_max_length=64, **special)
    tokenizer.add_tokens(["<tag>"])
    tokenizer.add_tokens([AddedToken("<special>", special=True)], special_tokens=True)
    return tokenizer


def as_class(name):
    """A tokenizer that says in its files to be of a class, loaded as that."""
    with tempfile.TemporaryDirectory() as folder:
        trained(CLASSES[name]).save_pretrained(folder)
        path = Path(folder) / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": name}))
        return AutoTokenizer.from_pretrained(folder)
