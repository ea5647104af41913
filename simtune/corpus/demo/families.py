"""Generator families: the skills that demo tasks are made of.

A family is a function from a random generator to one `Case`. Each factory below fixes one skill (look a value up,
take an item at a position, compare quantities, ...); a task supplies the sentence it is dressed in and the pools it
draws from. Few skills in many topics is what lets a model learn on some topics and answer on unseen ones.

Determinism: only `random`, `randrange`, `choice`, `shuffle` and `sample` are called, whose streams do not change
between Python versions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from simtune.corpus.demo.pools import NUMBER_WORDS

Pool = Sequence[str]


@dataclass(frozen=True, slots=True)
class Case:
    """One drawn input with its answer.

    Attributes:
        input: what the model reads.
        output: the right answer.
        wrong: a plausible wrong answer, for a negative demonstration.
        because: one sentence why `output` is right.
    """

    input: str
    output: str
    wrong: str
    because: str


Family = Callable[[Random], Case]


def _other(rng: Random, pool: Pool, *taken: str) -> str:
    return rng.choice([word for word in pool if word not in taken])


def _fill(rng: Random, pools: Mapping[str, Pool]) -> dict[str, str]:
    """A word for each slot of a sentence; slots that share a pool never hold the same word."""
    words: dict[str, str] = {}
    for name, pool in pools.items():
        words[name] = _other(rng, pool, *words.values())
    return words


def slot(template: str, answer: str, **pools: Pool) -> Family:
    """Extraction: fill the sentence from the pools and ask for one of its slots."""

    def draw(rng: Random) -> Case:
        words = _fill(rng, pools)
        distractors = [word for name, word in words.items() if name != answer]
        return Case(
            template.format(**words),
            words[answer],
            rng.choice(distractors),
            f"The sentence gives {words[answer]} in that place.",
        )

    return draw


ORDINALS = ("first", "second", "last")


def ranked(pool: Pool, ordinal: str, template: str = "{items}.") -> Family:
    """Position: three items are announced as first, second and last; the one announced as `ordinal`."""
    position = ORDINALS.index(ordinal)

    def draw(rng: Random) -> Case:
        items = rng.sample(pool, len(ORDINALS))
        announced = ", ".join(f"{word} {item}" for word, item in zip(ORDINALS, items, strict=True))
        return Case(
            template.format(items=announced),
            items[position],
            _other(rng, items, items[position]),
            f"The {ordinal} one is {items[position]}.",
        )

    return draw


_ORDERS = {
    "reversed": slice(None, None, -1),
    "unchanged": slice(None),
    "first": slice(1),
    "last": slice(-1, None),
}


def reorder(pool: Pool, order: str, because: str, size: int = 3) -> Family:
    """Text manipulation: which words of the input make the answer, and in which `order`."""

    def draw(rng: Random) -> Case:
        words = rng.sample(pool, size)
        text, answer = " ".join(words), " ".join(words[_ORDERS[order]])
        wrong = text if text != answer else " ".join(reversed(words))
        return Case(text, answer, wrong, because)

    return draw


def lookup(keys: Pool, values: Pool, template: str, by_value: bool = False, size: int = 2) -> Family:
    """Look-up in `size` records `key: value`: the value of a key, or the key of a value when `by_value`."""

    def draw(rng: Random) -> Case:
        chosen_keys, chosen_values = rng.sample(keys, size), rng.sample(values, size)
        records = ", ".join(f"{key}: {value}" for key, value in zip(chosen_keys, chosen_values, strict=True))
        asked, answers = (chosen_values, chosen_keys) if by_value else (chosen_keys, chosen_values)
        hit = rng.randrange(size)
        return Case(
            template.format(records=records, query=asked[hit]),
            answers[hit],
            _other(rng, answers, answers[hit]),
            f"{asked[hit]} is listed with {answers[hit]}.",
        )

    return draw


def extreme(
    names: Pool,
    record: str,
    largest: bool,
    template: str = "{records}",
    values: Sequence[int] = range(2, 10),
    size: int = 2,
) -> Family:
    """Comparison: of `size` records with distinct quantities, the name with the largest or smallest one."""

    def draw(rng: Random) -> Case:
        chosen, quantities = rng.sample(names, size), rng.sample(values, size)
        records = ", ".join(
            record.format(name=name, n=quantity) for name, quantity in zip(chosen, quantities, strict=True)
        )
        best = max(quantities) if largest else min(quantities)
        answer = chosen[quantities.index(best)]
        return Case(
            template.format(records=records),
            answer,
            _other(rng, chosen, answer),
            f"{best} is the {'largest' if largest else 'smallest'} number and belongs to {answer}.",
        )

    return draw


def count(pool: Pool, template: str = "{items}", sizes: tuple[int, int] = (2, 5)) -> Family:
    """Counting: how many items the list has, as a number word."""

    def draw(rng: Random) -> Case:
        items = rng.sample(pool, rng.randrange(sizes[0], sizes[1] + 1))
        size = len(items)
        return Case(
            template.format(items=", ".join(items)),
            NUMBER_WORDS[size],
            NUMBER_WORDS[size + 1],
            f"The list has {NUMBER_WORDS[size]} entries.",
        )

    return draw


def membership(pool: Pool, template: str, size: int = 3) -> Family:
    """Yes or no: is the query one of the `size` listed items?"""

    def draw(rng: Random) -> Case:
        items = rng.sample(pool, size)
        present = rng.random() < 0.5
        query = rng.choice(items) if present else _other(rng, pool, *items)
        return Case(
            template.format(items=", ".join(items), query=query),
            "yes" if present else "no",
            "no" if present else "yes",
            f"{query} is {'' if present else 'not '}in the list.",
        )

    return draw


def same(pool: Pool, template: str, labels: tuple[str, str] = ("yes", "no"), **fillers: Pool) -> Family:
    """Do `{left}` and `{right}` agree? `labels` are the answers for equal and for different."""

    def draw(rng: Random) -> Case:
        left = rng.choice(pool)
        equal = rng.random() < 0.5
        right = left if equal else _other(rng, pool, left)
        words = _fill(rng, fillers)
        return Case(
            template.format(left=left, right=right, **words),
            labels[0] if equal else labels[1],
            labels[1] if equal else labels[0],
            f"{left} and {right} are {'the same' if equal else 'different'}.",
        )

    return draw


def threshold(template: str, **fillers: Pool) -> Family:
    """Classification of a number: low below 10, high from 10 to 17, equally often."""
    labels = ("low", "high")

    def draw(rng: Random) -> Case:
        high = rng.random() < 0.5
        value = rng.choice(range(10, 18) if high else range(2, 10))
        words = _fill(rng, fillers)
        return Case(
            template.format(n=value, **words),
            labels[high],
            labels[not high],
            f"{value} is {'not below' if high else 'below'} 10.",
        )

    return draw


def classification(template: str, labels: Mapping[str, Pool], **fillers: Pool) -> Family:
    """Classification of a word: the label whose pool the sentence's `{word}` comes from, labels equally often."""

    def draw(rng: Random) -> Case:
        label = rng.choice(list(labels))
        word = rng.choice(labels[label])
        words = _fill(rng, fillers)
        return Case(
            template.format(word=word, **words),
            label,
            _other(rng, list(labels), label),
            f"The word {word} decides it.",
        )

    return draw


def successor(cycle: Pool, step: int, template: str, **fillers: Pool) -> Family:
    """What comes `step` places later in a cycle such as the days of the week."""

    def draw(rng: Random) -> Case:
        start = rng.randrange(len(cycle))
        answer = cycle[(start + step) % len(cycle)]
        words = {name: rng.choice(filler) for name, filler in fillers.items()}
        return Case(
            template.format(word=cycle[start], **words),
            answer,
            cycle[start],
            f"{answer} comes right {'after' if step > 0 else 'before'} {cycle[start]}.",
        )

    return draw


def total(template: str, smallest: int = 2, largest: int = 6, **fillers: Pool) -> Family:
    """Arithmetic in words: the sum of `{left}` and `{right}`, both from `smallest` to `largest`."""

    def draw(rng: Random) -> Case:
        left, right = rng.randrange(smallest, largest + 1), rng.randrange(smallest, largest + 1)
        words = _fill(rng, fillers)
        return Case(
            template.format(left=NUMBER_WORDS[left], right=NUMBER_WORDS[right], **words),
            NUMBER_WORDS[left + right],
            NUMBER_WORDS[left + right - 1],
            f"{NUMBER_WORDS[left]} plus {NUMBER_WORDS[right]} is {NUMBER_WORDS[left + right]}.",
        )

    return draw


def remaining(pool: Pool, template: str, **fillers: Pool) -> Family:
    """Of two options `{left}` and `{right}`, the one that the sentence does not rule out as `{out}`."""

    def draw(rng: Random) -> Case:
        options = rng.sample(pool, 2)
        out = rng.randrange(2)
        words = {name: _other(rng, filler, *options) for name, filler in fillers.items()}
        return Case(
            template.format(left=options[0], right=options[1], out=options[out], **words),
            options[1 - out],
            options[out],
            f"{options[out]} is ruled out, so {options[1 - out]} is left.",
        )

    return draw


FAMILIES: dict[str, Callable[..., Family]] = {
    family.__name__: family
    for family in (
        slot,
        ranked,
        reorder,
        lookup,
        extreme,
        count,
        membership,
        same,
        threshold,
        classification,
        successor,
        total,
        remaining,
    )
}
"""By the names that the files of topics use."""
