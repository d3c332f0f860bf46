"""QLoRA after NF4: layers of four bits, adapters that learn from the float model, merged into the four bits."""

import argparse

from hfcompress.cli.main import main as hfcompress

RECIPE = """\
model: {model}
data: {{dataset: {data}}}
steps:
  - bnb_nf4: {{}}
    as: four-bit
  - distill:
      teacher: {model}
      lora: {{rank: 16}}
      num_train_epochs: {epochs}
      learning_rate: 3.0e-4
    as: recovered
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--epochs", type=float, default=1)
    options = parser.parse_args()

    with open(f"{options.output}.yaml", "w") as file:
        file.write(RECIPE.format(model=options.model, data=options.data, epochs=options.epochs))
    raise SystemExit(hfcompress(["run", f"{options.output}.yaml", "--output-dir", options.output]))


if __name__ == "__main__":
    main()
