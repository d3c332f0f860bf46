"""Tiny random models of every family, a word-level tokenizer, and data that can be learned in seconds."""

import csv
import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

GOOD = ["fine", "warm", "bright", "moving", "funny", "clever"]
BAD = ["dull", "cold", "flat", "tired", "loud", "empty"]
OTHER = ["the", "film", "story", "is", "a", "and", "with", "its", "very", "cast", "end", "plot"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

FAMILIES = ["bert", "distilbert", "roberta", "xlm-roberta", "electra", "mpnet"]


def tiny_tokenizer(extra=()):
    """A word-level tokenizer with BERT's special tokens; `extra` words come first and so shift all ids."""
    words = [*SPECIAL, *extra, *GOOD, *BAD, *OTHER]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",  # noqa: S106
        unk_token="[UNK]",  # noqa: S106
        cls_token="[CLS]",  # noqa: S106
        sep_token="[SEP]",  # noqa: S106
        mask_token="[MASK]",  # noqa: S106
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def tiny_config(family="bert", layers=2, width=32, num_labels=2, **overrides):
    sizes = {
        "vocab_size": 64,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 80,
    }
    if family == "distilbert":
        sizes = {
            "vocab_size": 64,
            "dim": width,
            "n_layers": layers,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": 80,
        }
    if family == "electra":
        sizes["embedding_size"] = 16
    return AutoConfig.for_model(family, **{"num_labels": num_labels, "pad_token_id": 0, **sizes, **overrides})


def tiny_model(family="bert", layers=2, trained_head=True, seed=0, **overrides):
    """A random classifier in evaluation mode; its head's bias is not zero, as after training, unless asked."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(tiny_config(family, layers, **overrides))
    if trained_head:
        head = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == model.num_labels][-1]
        torch.nn.init.normal_(head.bias, std=0.1)
        torch.nn.init.normal_(head.weight, std=0.3)
    return model.eval()


def sentences(count, seed=0):
    """Pairs of text and label name: what decides is which kind of word stands in it; lengths differ."""
    choose = random.Random(seed)
    rows = []
    for index in range(count):
        label = index % 2
        words = choose.choices(OTHER, k=choose.randint(2, 14)) + choose.choices(GOOD if label else BAD, k=2)
        choose.shuffle(words)
        rows.append((" ".join(words), ["negative", "positive"][label]))
    return rows


def write_csv(path, count, seed=0):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(sentences(count, seed))
    return path
