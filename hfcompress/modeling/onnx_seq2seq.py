"""An encoder and a decoder in ONNX files of their own as one model, which answers and writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.onnx_model import OnnxModel, model_folder
from hfcompress.tasks.text2text_generation import shift_right

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, LogitsProcessorList, PretrainedConfig
    from transformers.utils.generic import ModelOutput

_ENCODER, _DECODER = "encoder_model", "decoder_model_merged"
_GENERATION = "generation_config.json"


def pair_of(file: Path) -> tuple[Path, Path] | None:
    """Return the files of an encoder and a decoder that belong together, of which one is given; None for another file.

    They have the same suffix: `encoder_model_quantized.onnx` goes with `decoder_model_merged_quantized.onnx`.

    Raises:
        ModelError: One of the two is missing.
    """
    part = next((name for name in (_ENCODER, _DECODER) if file.stem.startswith(name)), None)
    if part is None:
        return None
    suffix = file.name.removeprefix(part)
    pair = file.with_name(_ENCODER + suffix), file.with_name(_DECODER + suffix)
    for one in pair:
        if not one.is_file():
            problem = f"there is no {one.name} beside it, the other half of the model."
            raise ModelError(Fault(str(file), problem, "Export the model anew."))
    return pair


class OnnxSeq2Seq(OnnxModel):
    """An encoder-decoder whose graphs are run one after the other.

    Args:
        encoder: The encoder's file.
        decoder: The decoder's file; it takes and returns caches.
        config: The model's config.
        threads: As for `start_session`.

    Raises:
        ModelError: As `start_session`.
    """

    def __init__(self, encoder: Path, decoder: Path, config: PretrainedConfig, threads: int | None = None) -> None:
        super().__init__(decoder, config, threads)
        self.encoder = OnnxModel(encoder, config, threads)
        self.generation_config = _generation_config(decoder, config)

    @property
    def input_names(self) -> list[str]:
        """What the two graphs take together."""
        return [*self.encoder.input_names, "decoder_input_ids"]

    def __call__(self, **inputs: Tensor) -> ModelOutput:
        """Run the encoder and then the decoder, on all target tokens at once.

        Args:
            **inputs: `input_ids`, `attention_mask`, `(batch, source)`, and `decoder_input_ids`, `(batch, target)`;
                without the last the decoder reads the source, one place later.

        Returns:
            `logits`, `(batch, target, vocabulary)`, and `encoder_last_hidden_state`.
        """
        from transformers.utils.generic import ModelOutput

        read = self._encode(inputs)
        target = inputs.get("decoder_input_ids")
        target = shift_right(inputs["input_ids"], self.config) if target is None else target
        logits = self.run(["logits"], {"input_ids": target, **read})["logits"]
        return ModelOutput({"logits": logits, "encoder_last_hidden_state": read["encoder_hidden_states"]})

    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        max_new_tokens: int = 128,
        num_beams: int = 1,
        do_sample: bool = False,
    ) -> Tensor:
        """Write texts, always taking the likeliest token, as `PreTrainedModel.generate` does.

        The rules of the model's generation config hold: forced tokens, no repeated phrases, a least length.

        Args:
            input_ids: The sources, `(batch, source)`.
            attention_mask: 0 where they are padding; None where they are not.
            max_new_tokens: Tokens written at most.
            num_beams: 1; nothing else is done here.
            do_sample: False; nothing else is done here.

        Returns:
            Tokens with the start token in front, padded behind the end, `(batch, tokens)`.

        Raises:
            ValueError: Beams or samples are asked for.
            ModelError: The config names no token to start from.
        """
        import torch

        if num_beams != 1 or do_sample:
            raise ValueError("an ONNX model writes the likeliest token: num_beams must be 1 and do_sample False")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        read = self._encode({"input_ids": input_ids, "attention_mask": mask})
        tokens = shift_right(input_ids[:, :1], self.config)
        rules: Any = _rules(self.generation_config, 1 + max_new_tokens)
        ends = torch.tensor(_as_list(self.generation_config.eos_token_id), dtype=torch.long)
        padding = self.generation_config.pad_token_id or 0
        done = torch.zeros(len(tokens), dtype=torch.bool)
        cache: dict[str, Tensor] = {}
        for _ in range(max_new_tokens):
            outputs = self.run(self.output_names, {"input_ids": tokens[:, -1:], **read, **cache})
            cache = _next_cache(outputs, cache)
            chosen = rules(tokens, outputs["logits"][:, -1].float()).argmax(-1).masked_fill(done, padding)
            tokens = torch.cat([tokens, chosen[:, None]], dim=1)
            done |= torch.isin(chosen, ends)
            if bool(done.all()):
                break
        return tokens

    def _encode(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the encoder; return what the decoder takes of it."""
        import torch

        mask = inputs.get("attention_mask")
        mask = torch.ones_like(inputs["input_ids"]) if mask is None else mask
        states = self.encoder(**inputs)["last_hidden_state"]
        return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def _next_cache(outputs: dict[str, Tensor], cache: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what the decoder takes for the next token.

    The keys and values of the source stay those of the first token: later graphs need not return them.
    """
    import torch

    found = {"use_cache_branch": torch.tensor([True])}
    for name, value in outputs.items():
        if name.startswith("present"):
            past = name.replace("present", "past_key_values")
            found[past] = cache[past] if past in cache and ".encoder." in past else value
    return found


def _generation_config(file: Path, config: PretrainedConfig) -> GenerationConfig:
    """Return how the model writes: its own file says it, or its config."""
    from transformers import GenerationConfig

    folder = model_folder(file)
    if (folder / _GENERATION).is_file():
        return GenerationConfig.from_pretrained(folder)
    return GenerationConfig.from_model_config(config)


def _rules(settings: GenerationConfig, max_length: int) -> LogitsProcessorList:
    """Return transformers' own rules for the next token, as far as the generation config has any."""
    import transformers

    ends = _as_list(settings.eos_token_id)
    found: list[Any] = []
    if settings.repetition_penalty not in (None, 1.0):
        found.append(transformers.RepetitionPenaltyLogitsProcessor(penalty=settings.repetition_penalty))
    if settings.no_repeat_ngram_size:
        found.append(transformers.NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size))
    if settings.min_length and ends:
        found.append(transformers.MinLengthLogitsProcessor(settings.min_length, ends))
    if settings.forced_bos_token_id is not None:
        found.append(transformers.ForcedBOSTokenLogitsProcessor(settings.forced_bos_token_id))
    if settings.forced_eos_token_id is not None:
        found.append(transformers.ForcedEOSTokenLogitsProcessor(max_length, settings.forced_eos_token_id))
    return transformers.LogitsProcessorList(found)


def _as_list(tokens: int | list[int] | None) -> list[int]:
    return [] if tokens is None else tokens if isinstance(tokens, list) else [tokens]
