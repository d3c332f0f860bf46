"""Tiny random models of every family, a word-level tokenizer, and data that can be learned in seconds."""

import csv
import random

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

GOOD = ["fine", "warm", "bright", "moving", "funny", "clever"]
BAD = ["dull", "cold", "flat", "tired", "loud", "empty"]
OTHER = ["the", "film", "story", "is", "a", "and", "with", "its", "very", "cast", "end", "plot"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

FAMILIES = ["bert", "distilbert", "roberta", "xlm-roberta", "electra", "mpnet"]
"""The encoders that every test of text classification runs through."""

_UNDERSTANDING = ("", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
_ENCODER = (*_UNDERSTANDING, "ForMaskedLM")
_DECODER = (*_UNDERSTANDING, "ForCausalLM")
_VISION = ("", "ForImageClassification")
HEADS = {
    **dict.fromkeys([*FAMILIES, "albert", "deberta-v2", "modernbert", "mobilebert", "squeezebert"], _ENCODER),
    "bart": ("", "ForSequenceClassification", "ForQuestionAnswering", "ForCausalLM", "ForSeq2SeqLM"),
    "t5": (*_UNDERSTANDING, "ForSeq2SeqLM"),
    "mt5": (*_UNDERSTANDING, "ForSeq2SeqLM"),
    **dict.fromkeys(["gpt2", "llama", "qwen2", "qwen3"], _DECODER),
    **dict.fromkeys(["vit", "resnet", "mobilenet_v1", "mobilenet_v2"], _VISION),
}
"""The task heads (how the auto class ends, `AutoModel…`) of every family that the block table knows."""
ENCODER_DECODERS = ["bart", "t5", "mt5"]
VISION = ["vit", "resnet", "mobilenet_v1", "mobilenet_v2"]
CONVOLUTIONAL = ["resnet", "mobilenet_v1", "mobilenet_v2"]

# What else a tiny config of a family needs; the usual names of width, depth and so on are filled in by `tiny_config`.
_RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True}
_SPECIAL_IDS = {"bos_token_id": 2, "eos_token_id": 3}
_SEQ2SEQ_IDS = {**_SPECIAL_IDS, "decoder_start_token_id": 3, "forced_eos_token_id": 3}
_MORE = {
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "deberta-v2": {**_RELATIVE, "norm_rel_ebd": "layer_norm"},
    "modernbert": {**_SPECIAL_IDS, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 4},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 2},
    "squeezebert": {
        "embedding_size": 32,
        **dict.fromkeys(["q_groups", "k_groups", "v_groups", "intermediate_groups", "output_groups"], 2),
    },
    "llama": {"num_key_value_heads": 2, **_SPECIAL_IDS},
    "qwen2": {"num_key_value_heads": 2, **_SPECIAL_IDS},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 16, **_SPECIAL_IDS},
}


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
    if family in ("gpt2", "bart", "t5", "mt5", *VISION):
        sizes = _other_names(family, layers, width)
    sizes |= _MORE.get(family, {})
    if family not in VISION:
        sizes = {"pad_token_id": 0, **sizes}
    return AutoConfig.for_model(family, **{"num_labels": num_labels, **sizes, **overrides})


def _other_names(family, layers, width):
    """Sizes of a family that names them in its own way."""
    t5 = {"vocab_size": 64, "d_model": width, "d_kv": 8, "d_ff": 64, "num_heads": 4, "eos_token_id": 3}
    t5["decoder_start_token_id"] = 0
    bart = {"vocab_size": 64, "d_model": width, "max_position_embeddings": 80, **_SEQ2SEQ_IDS}
    for stack in ("encoder", "decoder"):
        bart |= {f"{stack}_layers": layers, f"{stack}_attention_heads": 4, f"{stack}_ffn_dim": 64}
    vit = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 64}
    return {
        "gpt2": {"vocab_size": 64, "n_embd": width, "n_layer": layers, "n_head": 4, "n_positions": 80, **_SPECIAL_IDS},
        "bart": bart,
        "t5": {**t5, "num_layers": layers, "num_decoder_layers": layers},
        "mt5": {**t5, "num_layers": layers, "num_decoder_layers": layers, "tie_word_embeddings": False},
        "vit": {**vit, "image_size": 16, "patch_size": 8},
        "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"},
        "mobilenet_v1": {"image_size": 32, "depth_multiplier": 0.25, "min_depth": 8},
        "mobilenet_v2": {"image_size": 32, "depth_multiplier": 0.25, "min_depth": 8, "depth_divisible_by": 8},
    }[family]


def tiny_head(family, head="", layers=2, seed=0, **overrides):
    """A random model of any family with any of its `HEADS`, in evaluation mode; its biases are not zero."""
    torch.manual_seed(seed)
    model = getattr(transformers, f"AutoModel{head}").from_config(tiny_config(family, layers, **overrides))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    return model.eval()


def tiny_inputs(model, seed=0):
    """What a model of any family takes: three padded texts that end with token 3, or two images."""
    generator = torch.Generator().manual_seed(seed)
    if model.config.model_type in VISION:
        size = getattr(model.config, "image_size", 32)
        return {"pixel_values": torch.rand((2, 3, size, size), generator=generator)}
    ids = torch.randint(5, 64, (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 6:] = mask[2, 2:] = 0
    ids[range(3), mask.sum(dim=1) - 1] = 3  # the end of a text, where encoder-decoders classify
    batch = {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}
    if model.config.model_type in ENCODER_DECODERS and type(model).__name__.endswith(("Model", "Generation")):
        batch["decoder_input_ids"] = ids[:, :5]
    return batch


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
