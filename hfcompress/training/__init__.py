"""Training: arguments, the Trainer and its mixin, callbacks, checkpoints, and the `finetune` step."""
