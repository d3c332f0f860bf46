"""`hfcompress augment`: more text for a teacher to speak on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, MinLen

from hfcompress.cli.options import Request, Verb
from hfcompress.cli.output import Output
from hfcompress.config import option
from hfcompress.context import Seed
from hfcompress.distillation.augmentation import AugmentConfig, Row
from hfcompress.errors import DataError, Fault, RequestError, unknown
from hfcompress.reading import load_splits
from hfcompress.sources import resolve

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class ModelOptions:
    """Which model finds the words."""

    model: Annotated[str, MinLen(1)] = option(
        help="an encoder: Hub id, folder, or short name such as bert-base; it need not be the teacher"
    )
    seed: Seed = option(42, help="seed of everything random")


@dataclass
class TextOptions:
    """Which texts."""

    dataset: Annotated[str, MinLen(1)] = option(
        help="Hub id (name or name:config), or a csv, json, jsonl or parquet file, or a folder of them"
    )
    text_column: str | None = option(None, help="column with the text (default: text, or the only one with strings)")
    text_pair_column: str | None = option(None, help="column with the second text of a pair, varied too")
    train_split: str = option("train", help="split to make variants of; evaluate on none of its rows")
    where: dict[str, str | int] = option({}, help="keep only rows whose columns have these values")
    max_rows: Annotated[int, Gt(0)] | None = option(
        None, help="make variants of at most so many rows, chosen at random"
    )


@dataclass
class FileOptions:
    """Where the result goes."""

    output_file: Path = option(help="a .jsonl file; appears whole or not at all")
    overwrite: bool = option(False, help="replace an existing file once the new one is complete")
    dry_run: bool = option(False, help="say what would be made and what it costs; write nothing")

    def check(self) -> None:
        """Look at the ending, by which data files are read.

        Raises:
            RequestError: It is another than `.jsonl`.
        """
        if self.output_file.suffix != ".jsonl":
            raise RequestError(Fault("output_file", f"takes a file that ends in .jsonl, got '{self.output_file}'."))


def run(request: Request, output: Output) -> None:
    """Write variants of the texts; a stopped run goes on where it stood."""
    from hfcompress.distillation.augmentation import augment, output_bytes
    from hfcompress.distillation.partial_lines import refuse_output_file
    from hfcompress.modeling.load import load_config, load_tokenizer

    model, texts, config, place = request.configs
    _refuse_own_data(texts.dataset, place.output_file)
    if not place.dry_run:
        refuse_output_file(place.output_file, place.overwrite)
    load_config(model.model)
    rows, skipped = read_rows(texts, model.seed)
    if skipped:
        output.say(f"note: {skipped} rows without a text are left out")
    if place.dry_run:
        load_tokenizer(model.model)
        record = {"rows": len(rows), "variants": len(rows) * config.copies, "bytes": output_bytes(rows, config)}
        heading = (
            f"At most {record['variants']:,} variants of {len(rows):,} rows, which need about "
            f"{record['bytes'] / 1e6:,.1f} MB of disk on the way; nothing was written."
        )
        output.result(record, heading)
        return
    made = augment(rows, model.model, place.output_file, config, model.seed, place.overwrite, output.progress)
    words = [f"{made.variants:,} variants of {made.rows:,} rows are in {place.output_file} ({made.seconds:.1f} s)."]
    if made.dropped:
        words.append(f"{made.dropped:,} more equalled their original or another variant of it.")
    words += [f"\n  {' | '.join(original)}\n  {' | '.join(variant)}" for original, variant in made.examples]
    output.result(asdict(made) | {"output_file": str(place.output_file)}, "\n".join(words))


def read_rows(options: TextOptions, seed: int) -> tuple[list[Row], int]:
    """Read the texts, and the number of rows that have none.

    Raises:
        DataError: A split or column is not there, holds something other than text, or nothing is left.
        NetworkError: The data would have to come from the Hub, which cannot be reached.
    """
    splits = load_splits(options.dataset)
    if options.train_split not in splits:
        raise DataError(unknown("split", options.train_split, splits, options.dataset))
    rows = splits[options.train_split]
    columns = _columns(rows, options)
    if options.where:
        rows = rows.filter(lambda row: all(str(row[name]) == str(value) for name, value in options.where.items()))
    if options.max_rows and options.max_rows < len(rows):
        rows = rows.shuffle(seed=seed).select(range(options.max_rows))
    texts = list(zip(*(rows[column] for column in columns), strict=True))
    kept = [row for row in texts if all(text and text.strip() for text in row)]
    if not kept:
        matching = " that match `where`" if options.where else ""
        raise DataError(Fault(options.dataset, f"has no rows with text{matching}."))
    return kept, len(texts) - len(kept)


def _columns(rows: Dataset, options: TextOptions) -> list[str]:
    """Return the columns with the texts.

    Raises:
        DataError: They are not there, not text, or several could be meant; every such fault.
    """
    with_text = [name for name, feature in rows.features.items() if getattr(feature, "dtype", "") in _TEXT_TYPES]
    likely = ["text"] if "text" in with_text else with_text
    given = [name for name in (options.text_column, options.text_pair_column) if name]
    faults = [
        unknown("column", name, rows.column_names, options.dataset) for name in given if name not in rows.features
    ]
    faults += [
        Fault(
            options.dataset, f"its column '{name}' holds no text.", f"Those that do: {', '.join(with_text) or 'none'}."
        )
        for name in given
        if name in rows.features and name not in with_text
    ]
    faults += [
        unknown("column", name, rows.column_names, "where") for name in options.where if name not in rows.features
    ]
    if not options.text_column and len(likely) != 1:
        problem = (
            f"has {'several columns' if likely else 'no column'} with text{': ' if likely else ''}{', '.join(likely)}."
        )
        faults.append(Fault(options.dataset, problem, "Pass --text-column." if likely else ""))
    if not faults and options.text_pair_column == (options.text_column or likely[0]):
        faults.append(Fault(options.dataset, f"the column '{options.text_pair_column}' cannot serve twice."))
    if faults:
        raise DataError(*faults)
    return [options.text_column or likely[0], *filter(None, [options.text_pair_column])]


_TEXT_TYPES = ("string", "large_string")


def _refuse_own_data(dataset: str, output_file: Path) -> None:
    """Keep the result from replacing the data, or from being read as part of it the next time.

    Raises:
        RequestError: The output is the data file, or lies in the data folder.
    """
    data, made = Path(resolve(dataset)), output_file.resolve()
    if data.exists() and data.resolve() in (made, *made.parents):
        raise RequestError(Fault("--output-file", f"'{output_file}' is part of the data set.", "Choose another place."))


VERB = Verb(
    help="Write variants of texts in which some words are replaced, as TinyBERT does, for a teacher to speak on.\n\n"
    "The file has no labels, on purpose: another word (a lost 'not', another adjective) may turn the meaning,\n"
    "so only the teacher speaks on it. The original texts are not in it.",
    examples=(
        "hfcompress augment --model minilm --dataset reviews.csv --output-file more.jsonl",
        "hfcompress augment --model bert-base --method masked-lm --copies 20 --dataset stanfordnlp/sst2 "
        "--output-file more.jsonl",
        "hfcompress augment --model bert-base --dataset nyu-mll/glue:rte --text-column sentence1 "
        "--text-pair-column sentence2 --output-file more.jsonl --dry-run",
    ),
    groups=(ModelOptions, TextOptions, AugmentConfig, FileOptions),
    run=run,
)
