"""Trains the guide on the CPU in minutes: `python -m guide_training OUTPUT.gguf`."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tabagent_engine import GGUFHandler

from . import measure, network, pieces
from .batches import TEMPLATE, batches, examples, rendered
from .corpus import Corpus
from .export import write

if TYPE_CHECKING:
    from .pieces import Vocabulary

QUESTIONS = Path(__file__).parents[1] / "tabagent_backends" / "guide" / "questions.toml"
# How often an answer counts for the vocabulary, where each of 20,000 questions counts once.
ANSWER_COUNT = 60

log = logging.getLogger("guide_training")


def vocabulary_of(corpus: Corpus, size: int, seed: int) -> Vocabulary:
    """Learns pieces from questions and from the answers, which shall come out in few tokens."""
    texts: Counter[str] = Counter()
    for question, _ in islice(corpus.examples(seed, 0.15), 20_000):
        text = rendered(question).removeprefix("<|user|>").removesuffix("<|assistant|>")
        texts[text] += 1
    for answer in [*(topic.answer for topic in corpus.topics), corpus.refusal]:
        texts[answer] += ANSWER_COUNT
    return pieces.learn(texts, size)


def train(corpus: Corpus, options: argparse.Namespace) -> None:
    """Learns vocabulary and weights and writes the file."""
    vocabulary = vocabulary_of(corpus, options.vocabulary, options.seed)
    shape = network.Shape(options.vocabulary)
    params = network.initial(shape, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        # The engine tokenises by an untrained file, so training and use agree on every token.
        untrained = Path(folder) / "untrained.gguf"
        write(untrained, params, shape, vocabulary, TEMPLATE)
        engine = GGUFHandler(None, str(untrained))
        source = examples(corpus, engine, options.off_topic, options.seed)
        adam = network.optimiser(options.steps, options.rate)
        state = adam.init(params)
        for number, batch in enumerate(islice(batches(source, options.rows), options.steps), 1):
            params, state, value = network.step(params, state, batch, shape, adam)
            if number % 50 == 0 or number == options.steps:
                log.info("step %d of %d, loss %.4f", number, options.steps, float(value))
        engine.unload()
    write(options.output, params, shape, vocabulary, TEMPLATE)


def report(corpus: Corpus, path: Path) -> None:
    """Logs how the written file answers, with each wrong answer."""
    guide = GGUFHandler(None, str(path))

    def ask(question: str) -> str:
        return guide.generate(rendered(question), max_tokens=96, temperature=0)

    for score in measure.scores(corpus, ask):
        log.info("%s", score)
        for question, answer in score.wrong:
            log.info("    %s -> %s", question, answer[:70])
    guide.unload()


def main() -> None:
    """Reads the command line, trains and measures."""
    parser = argparse.ArgumentParser(prog="guide_training", description=__doc__)
    parser.add_argument("output", type=Path, help="the GGUF file to write")
    parser.add_argument("--measure-only", action="store_true", help="measure an existing file")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rows", type=int, default=14, help="packed rows per step")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--vocabulary", type=int, default=1536, help="pieces")
    parser.add_argument("--off-topic", type=float, default=0.18, help="share of questions")
    parser.add_argument("--seed", type=int, default=8484)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    corpus = Corpus(QUESTIONS)
    if leaks := corpus.leaks():
        parser.error(f"held-out questions that training phrasings produce: {leaks}")
    if not options.measure_only:
        train(corpus, options)
    report(corpus, options.output)


if __name__ == "__main__":
    main()
