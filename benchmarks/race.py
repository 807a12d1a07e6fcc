"""A race from the same encoder: our fine-tuning against sentence-transformers' own trainer.

    python -m benchmarks.race --data DIR --protocol time --json out.json --png out.png

Both start from the same weights, texts, token limit and events (those before the stopping window),
and are measured by NDCG@10 over distinct texts on the same requests of the valid window, which
neither learns from or stops by. A side's clock counts all it does to learn, loading included, and
stands still while it is measured.

ours     encodes the texts (no cache), aligns, trains the head until its own stopping window says
         stop; transformer layers (`training.layers`) are not raced
theirs   SentenceTransformerTrainer, MultipleNegativesRankingLoss, pairs of (text taken, other text
         taken next); set as the example of their training overview (learning rate 2e-5, 10 %
         warm-up, no duplicates in a batch), 64 pairs a batch. Their default schedule, linear, goes
         by the share of the clock that is spent: what it would be over the steps that fit. A user
         is our untrained mean of what they took; encoding the texts is not on their clock
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback

from benchmarks.curve import OURS, THEIRS, Curve, Point, Referee, draw, result
from benchmarks.quality import arguments, describe_run, run_of
from pipelines.report import without_nan
from pipelines.run import method_of, prepare_data
from pipelines.settings import RunConfig
from pipelines.stopping import interest_ndcg, stopping_moment
from pipelines.textmodel import distinct_texts, encode
from pipelines.throughput import Throughput
from recsys.alignment import aligned_head
from recsys.dataset import Log, concat
from recsys.encoder import has_bfloat16, load_encoder, model_folder
from recsys.errors import ConfigError
from recsys.progress import Show
from recsys.split import Requests, Windows, requests_in
from recsys.training import Tower, examples_in, new_tower, train_head, tuned_vectors

REQUESTS, TEXTS = 1_000, 1_024  # of a window, at most (as in pipelines.textmodel); encoded at once
BATCH_PAIRS, LEARNING_RATE = 64, 2e-5


@dataclass(frozen=True)
class Course:
    """What both sides run on."""

    config: RunConfig
    show: Show
    texts: list[str]
    text_of_item: np.ndarray  # (n_items,) int64
    log: Log
    windows: Windows
    exclude_seen: bool
    valid: Requests  # of the valid window

    @property
    def stop(self) -> int:
        """Where what both learn from ends."""
        return stopping_moment(self.log, self.windows)

    def ndcg(self, requests: Requests, tower: Tower, vectors: np.ndarray) -> float:
        """Return NDCG@10 over distinct texts, (n_texts, dim) vectors."""
        return interest_ndcg(self.log, requests, self.windows.unit, tower, vectors,
                             self.text_of_item, self.exclude_seen)  # fmt: skip


def main() -> None:
    """Run both sides, print who was where when, write it as JSON and picture."""
    parser = arguments("benchmarks.race", __doc__)
    parser.add_argument("--minutes", type=float, default=20, help="of their training")
    parser.add_argument("--every", type=float, default=4, help="minutes between measurements")
    parser.add_argument("--png", type=Path, help="where to draw the curves")
    asked = parser.parse_args()
    with run_of(asked) as (config, show):
        if not (asked.minutes > 0 and asked.every > 0):
            raise ConfigError("--minutes and --every must be above 0")
        for path in filter(None, (asked.json, asked.png)):
            if not path.parent.is_dir():
                raise ConfigError(f"{path}: there is no folder {path.parent}")
        import_theirs()
        course = course_of(config, show)
        mine, kept = ours(course)
        report = result(mine, theirs(course, 60 * asked.minutes, 60 * asked.every))
    report |= {
        "kept_by_ours": kept, "texts": len(course.texts), "requests": len(course.valid),
        "minutes": asked.minutes, "every": asked.every, "threads": torch.get_num_threads(),
        "run": describe_run(asked.data.name),
    }  # fmt: skip
    table = Table("side", "after", "seconds", "NDCG@10", title=asked.data.name)
    for side in (OURS, THEIRS):
        for after, seconds, ndcg in (point.values() for point in report[side]):
            table.add_row(side, after, f"{seconds:,.1f}", f"{ndcg:.4f}")
    last = f"kept by our stopping window: {kept['after']}, {kept['ndcg_at_10']:.4f}"
    Console(width=120, highlight=False).print(table, *report["words"], last, sep="\n")
    if asked.json:
        asked.json.write_text(json.dumps(without_nan(report), indent=2) + "\n")
    if asked.png:
        draw(report, asked.data.name, asked.png)


def course_of(config: RunConfig, show: Show) -> Course:
    """Prepare the data, and draw the requests that both are measured on."""
    prepared = prepare_data(config, show)
    method, log, windows = method_of(config, prepared), concat(prepared.logs()), prepared.windows
    rng = np.random.default_rng([config.seed, 32])
    valid = drawn(log, windows, windows.valid, windows.test, rng)
    return Course(config, show, *distinct_texts(method.items.text), log, windows,
                  method.exclude_seen, valid)  # fmt: skip


def drawn(log: Log, windows: Windows, start: int, end: int, rng: np.random.Generator) -> Requests:
    """Draw requests of [start, end)."""
    found = requests_in(log, windows, start, end)
    if not len(found):
        raise ConfigError("events: a window has nothing taken in it; bring a longer log")
    return found.take(np.sort(rng.permutation(len(found))[:REQUESTS]))


def import_theirs() -> tuple[Any, Any, Any]:
    """Import sentence-transformers, its losses, and datasets, which its trainer needs."""
    try:
        import datasets
        import sentence_transformers
        from sentence_transformers.sentence_transformer import losses
    except ImportError as error:
        raise ConfigError(f"the race needs sentence-transformers with its trainer ({error}); run "
                          "pip install 'sentence-transformers[train]>=6.2'") from error  # fmt: skip
    datasets.disable_progress_bars()
    return sentence_transformers, losses, datasets


def ours(course: Course) -> tuple[list[Point], Point]:
    """Learn as `learn_texts` does; also return the point that the stopping window keeps."""
    curve, training = Curve(), course.config.training
    rng, liked = np.random.default_rng([course.config.seed, 1]), list[float]()
    with TemporaryDirectory() as fresh:
        config = course.config.model_copy(update={"run_dir": Path(fresh)})
        frozen = encode(load_encoder(config.encoder), course.texts, config, course.show, "encode",
                        Throughput())  # fmt: skip
    start, stop = new_tower(frozen.shape[1], training.history), course.stop
    stopping = drawn(course.log, course.windows, stop, course.windows.ranker, rng)
    first = ["frozen encode", "alignment"] if training.align else ["frozen encode"]
    names = chain(first, map("epoch {}".format, count(1)))

    def judge(tower: Tower) -> float:
        vectors = tuned_vectors(tower, frozen)
        curve.add(next(names), lambda: course.ndcg(course.valid, tower, vectors))
        liked.append(course.ndcg(stopping, tower, vectors))
        return liked[-1]

    def on_step(step: int, steps: int, _pairs: int, loss: float) -> None:
        course.show("train head", step, steps, f"loss {loss:.3f}")

    before = course.log.before(stop)
    examples = examples_in(before, course.windows.unit, course.text_of_item, training.history)
    if not len(examples.target):
        raise ConfigError("events: nobody came back before the stopping window; bring a longer log")
    if training.align:
        judge(start)
        aligned = aligned_head(frozen, examples, training.ridge, rng)
        start = new_tower(frozen.shape[1], training.history, aligned)
    train_head(frozen, examples, training, rng, judge, start=start, on_step=on_step)
    course.show("train head", 1, 1, "stopped")
    return curve.points, curve.points[int(np.argmax(liked))]


def next_texts(log: Log, text_of_item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (text taken, text taken next) of each user, where the two differ."""
    log = log.keep(log.grade > 0)
    text, user = text_of_item[log.item], log.row
    pairs = (user[1:] == user[:-1]) & (text[1:] != text[:-1])
    return text[:-1][pairs], text[1:][pairs]


def theirs(course: Course, limit_s: float, every_s: float) -> list[Point]:
    """Train with sentence-transformers for `limit_s` seconds."""
    library, losses, datasets = import_theirs()
    curve, config = Curve(), course.config
    model = library.SentenceTransformer(model_folder(config.encoder.model))
    model.max_seq_length = config.encoder.max_tokens
    model.model_card_data.widget = [{}]  # or it takes time to pick examples for a card
    texts, before = np.array(course.texts, dtype=object), course.log.before(course.stop)
    anchor, positive = (texts[of] for of in next_texts(before, course.text_of_item))
    if not len(anchor):
        raise ConfigError("events: nobody took items of two texts; bring a longer log")

    def measure() -> float:
        parts = []
        for at in range(0, len(texts), TEXTS):
            some = course.texts[at : at + TEXTS]
            parts.append(model.encode(some, normalize_embeddings=True, show_progress_bar=False))
            course.show("encode, theirs", at + len(some), len(texts), "not on the clock")
        vectors = np.concatenate(parts)
        plain = new_tower(vectors.shape[1], config.training.history)
        return course.ndcg(course.valid, plain, vectors)

    with TemporaryDirectory() as folder:
        on_cpu = model.device.type == "cpu"
        settings = library.SentenceTransformerTrainingArguments(
            folder, per_device_train_batch_size=BATCH_PAIRS, learning_rate=LEARNING_RATE,
            batch_sampler="no_duplicates_hashed", bf16=has_bfloat16(model.device), use_cpu=on_cpu,
            dataloader_pin_memory=not on_cpu, max_steps=10**9, save_strategy="no", report_to="none",
            disable_tqdm=True, logging_steps=1, seed=config.seed,
        )  # fmt: skip
        pairs = datasets.Dataset.from_dict({"anchor": anchor, "positive": positive})
        loss = losses.MultipleNegativesRankingLoss(model)
        trainer = library.SentenceTransformerTrainer(model, settings, pairs, loss=loss)
        trainer.remove_callback(PrinterCallback)  # prints on stdout
        referee = Referee(curve, measure, limit_s, every_s, course.show)
        trainer.add_callback(referee)
        optimiser = trainer.create_optimizer()
        trainer.lr_scheduler = LambdaLR(optimiser, lambda _: referee.rate())
        curve.add("loading", measure)
        trainer.train()
    return curve.points


if __name__ == "__main__":
    main()
