"""What post-hoc methods look at a model with, some hundred rows, and what they see of its layers."""

from hfcompress.calibration.rows import Batch, calibration_batches, calibration_inputs, evaluating, model_inputs

__all__ = ["Batch", "calibration_batches", "calibration_inputs", "evaluating", "model_inputs"]
