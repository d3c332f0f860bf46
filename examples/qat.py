"""Training with rounding: `CompressionTrainer(quantization=…)`, then a static int8 file with the trained ranges."""

import argparse
from pathlib import Path

from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from hfcompress import CompressionArguments, CompressionTrainer
from hfcompress.data import DataConfig, encode, load_data
from hfcompress.export.config import ExportConfig
from hfcompress.export.run import export_onnx
from hfcompress.tasks import find_task


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--epochs", type=float, default=1)
    options = parser.parse_args()

    model = AutoModelForSequenceClassification.from_pretrained(options.model)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    task = find_task("text-classification")
    data = load_data(DataConfig(dataset=options.data), 42, task, tuple(model.config.id2label.values()))

    trainer = CompressionTrainer(
        model,
        CompressionArguments(options.output, num_train_epochs=options.epochs, learning_rate=2e-5, save_strategy="no"),
        train_dataset=encode(data.train, task, tokenizer, data.max_length),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        teacher=options.model,  # the model as it was teaches it to do with eight bits
        quantization={"method": "qat"},
    )
    trainer.train()
    trainer.save_model(options.output)
    export_onnx(model.eval(), tokenizer, task, Path(options.output), ExportConfig(quantize="static"), progress=False)
    files = sorted(Path(options.output, "onnx").glob("*.onnx"))
    print(", ".join(f"{file.name}: {file.stat().st_size} bytes" for file in files))


if __name__ == "__main__":
    main()
