"""What others offer for the same: Torch-Pruning 1.6.1 and torch.nn.utils.prune, brought to a share of the work.

Torch-Pruning is given what its importance by Taylor expansion needs, gradients of the labelled loss on as many training
sentences as `fisher` looks at; its ratio is searched for by bisection until the share of multiply-accumulates is met.
"""

import copy

import torch

from hfcompress.calibration import calibration_batches, model_inputs

EXAMPLES = 2048


def torch_pruning(model, macs, context, count, what):
    """Prune by Torch-Pruning: heads and neurons, or all that its own BERT example prunes, the hidden size too."""
    batches = calibration_batches(model, context, EXAMPLES, labelled=True)
    model.eval().zero_grad()
    for batch in batches:
        (model(**model_inputs(model, context, batch, labels=True)).loss / len(batches)).backward()
    whole, low, high, best = count(model), 0.0, 0.8, None
    for _ in range(8):
        ratio = (low + high) / 2
        one = _pruned(model, ratio, what)
        if count(one) <= macs * whole:
            best, high = one, ratio
        else:
            low = ratio
    best.zero_grad(set_to_none=True)
    return best


def _pruned(model, ratio, what):
    import torch_pruning

    dense, model = model, copy.deepcopy(model)
    for new, old in zip(model.parameters(), dense.parameters(), strict=True):
        new.grad = None if old.grad is None else old.grad.clone()
    attentions = [layer.attention.self for layer in model.bert.encoder.layer]
    heads = {part: a.num_attention_heads for a in attentions for part in (a.query, a.key, a.value)}
    ignored = [model.classifier]
    if what != "all":  # nothing that writes to the stream loses outputs
        ignored += [model.bert.embeddings, model.bert.pooler]
        ignored += [part for layer in model.bert.encoder.layer for part in (layer.attention.output, layer.output)]
    tokens = torch.ones(1, 16, dtype=torch.long)
    pruner = torch_pruning.pruner.BasePruner(
        model,
        {"input_ids": tokens, "attention_mask": tokens, "token_type_ids": tokens * 0},
        importance=torch_pruning.importance.GroupTaylorImportance(),
        global_pruning=what != "all",
        pruning_ratio=ratio,
        head_pruning_ratio=ratio,
        prune_num_heads=what != "all",
        prune_head_dims=what == "all",
        num_heads=heads,
        ignored_layers=ignored,
        output_transform=lambda outputs: outputs.logits.sum(),
    )
    pruner.step()
    for attention in attentions:  # as its own example does
        attention.num_attention_heads = pruner.num_heads[attention.query]
        attention.attention_head_size = attention.query.out_features // attention.num_attention_heads
        attention.all_head_size = attention.query.out_features
    return model


def torch_prune(model, macs):
    """Set to zero, by torch.nn.utils.prune, the neurons of smallest norm, and as many outputs of each attention.

    It removes nothing: the work stays what it was, and the share is what would be left if the zeros were.
    """
    from torch.nn.utils import prune

    for layer in model.bert.encoder.layer:
        attention = layer.attention.self
        for module in (attention.query, attention.key, attention.value, layer.intermediate.dense):
            prune.ln_structured(module, "weight", amount=1 - macs, n=2, dim=0)
            prune.remove(module, "weight")
    return model
