"""The bundled corpus: the same bytes everywhere, the promised shape, and answers that are right."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter

import pytest

from simtune.corpus.demo import demo_splits, demo_tasks, pools

TASKS = demo_tasks()
SPLITS = demo_splits()
SHA256 = "1e3f24ef09d9fc9eefec09b0a4f23a916398c9e6cf3e2556bbaf2b93cde413c4"
NUMBER = {word: value for value, word in enumerate(pools.NUMBER_WORDS)}
MIN_INSTANCES = 60


def canonical() -> str:
    return json.dumps(demo_tasks(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def category(name: str) -> str:
    return TASKS[name]["Categories"][0]


def cases(name: str) -> list[tuple[str, str]]:
    """Inputs and right answers of a task: its instances and its positive demonstrations."""
    task = TASKS[name]
    demonstrations = [(shown["input"], shown["output"]) for shown in task["Positive Examples"]]
    return demonstrations + [(instance["input"], instance["output"][0]) for instance in task["Instances"]]


def test_the_bytes_are_fixed() -> None:
    assert hashlib.sha256(canonical().encode()).hexdigest() == SHA256


def test_the_bytes_do_not_depend_on_hash_randomisation() -> None:
    program = (
        "import hashlib, json; from simtune.corpus.demo import demo_tasks; "
        "print(hashlib.sha256(json.dumps(demo_tasks()).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_every_call_hands_out_fresh_data() -> None:
    demo_tasks()[SPLITS["train"][0]]["Instances"].clear()
    assert demo_tasks() == TASKS


def test_the_splits_cover_the_tasks_once() -> None:
    assert list(SPLITS) == ["train", "test"]
    assert SPLITS["train"] + SPLITS["test"] == list(TASKS)


def test_the_corpus_is_large_and_diverse_enough() -> None:
    assert len(TASKS) >= 60
    assert len({category(name) for name in TASKS}) >= 10
    assert len(SPLITS["test"]) >= 12


def test_held_out_categories_have_no_train_task() -> None:
    assert {category(name) for name in SPLITS["test"]}.isdisjoint(category(name) for name in SPLITS["train"])


def test_a_few_train_tasks_are_too_small_for_the_pool() -> None:
    small = {name for name, task in TASKS.items() if len(task["Instances"]) < MIN_INSTANCES}
    assert 3 <= len(small) <= 5
    assert small <= set(SPLITS["train"])


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_well_formed(name: str) -> None:
    task = TASKS[name]
    assert re.fullmatch(r"demo_task\d{3}_[a-z_]+", name)
    positive, negative = task["Positive Examples"], task["Negative Examples"]
    assert len(positive) == 2
    assert len(negative) == 2
    assert positive[0]["output"] != positive[1]["output"]
    assert all(shown["explanation"] for shown in positive + negative)
    inputs = [entry["input"] for entry in positive + negative + task["Instances"]]
    assert len(set(inputs)) == len(inputs)
    assert len({instance["id"] for instance in task["Instances"]}) == len(task["Instances"])
    outputs = [answer for _, answer in cases(name)]
    assert all(1 <= len(answer.split()) <= 6 for answer in outputs)
    assert "  " not in task["Definition"][0]


def test_definitions_differ() -> None:
    assert len({task["Definition"][0] for task in TASKS.values()}) == len(TASKS)


LABELLED = sorted(
    name
    for name in TASKS
    if len({answer for _, answer in cases(name)}) == 2 and "Answer " in TASKS[name]["Definition"][0]
)


def test_there_are_label_tasks_on_both_sides() -> None:
    assert set(LABELLED) & set(SPLITS["train"])
    assert set(LABELLED) & set(SPLITS["test"])


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_named_in_the_definition_and_both_are_common(name: str) -> None:
    labels = Counter(answer for _, answer in cases(name))
    words = re.findall(r"\w+", TASKS[name]["Definition"][0])
    assert set(labels) <= set(words)
    assert min(labels.values()) >= 0.3 * labels.total()


def looked_up(text: str) -> str:
    records, query = re.fullmatch(r"\w+: (.*)\. \w+: (\w+)", text).groups()
    table = dict(record.split(": ") for record in records.split(", "))
    return table.get(query) or {value: key for key, value in table.items()}[query]


def quantities(text: str) -> dict[str, int]:
    return {name: int(n) for name, n in re.findall(r"(\w+): (\d+) ", text)}


def smallest(text: str) -> str:
    return min(quantities(text), key=quantities(text).__getitem__)


def largest(text: str) -> str:
    return max(quantities(text), key=quantities(text).__getitem__)


def listed(text: str) -> str:
    entries, query = re.fullmatch(r"\w+: (.*)\. Wanted: (\w+)", text).groups()
    return "yes" if query in entries.split(", ") else "no"


def counted(text: str) -> str:
    return pools.NUMBER_WORDS[text.count(",") + 1]


def summed(text: str) -> str:
    return pools.NUMBER_WORDS[sum(NUMBER[word] for word in re.findall(r"\w+", text) if word in NUMBER)]


def announced(ordinal: str, text: str) -> str:
    return re.search(rf"{ordinal} (\w+)", text)[1]


def agree(pool: tuple[str, ...], text: str) -> str:
    first, second = (word for word in re.findall(r"\w+", text) if word in pool)
    return "yes" if first == second else "no"


def left_over(text: str) -> str:
    first, second, out = re.search(r"(\w+) or (\w+)\. Not possible: (\w+)", text).groups()
    return second if out == first else first


RULES = {
    "task001_food_guest_dish": looked_up,
    "task002_food_dish_guest": looked_up,
    "task232_post_receiver": looked_up,
    "task201_hospital_patient_day": looked_up,
    "task011_shop_cheaper": smallest,
    "task033_weather_colder": smallest,
    "task242_office_less_work": smallest,
    "task061_sports_winner": largest,
    "task221_farm_more_milk": largest,
    "task004_food_on_menu": listed,
    "task213_museum_statue_there": listed,
    "task045_library_num_books": counted,
    "task222_farm_num_fruits": counted,
    "task014_shop_bill": summed,
    "task151_number_sum": summed,
    "task223_farm_total_eggs": summed,
    "task003_food_first_course": lambda text: announced("first", text),
    "task053_school_second_lesson": lambda text: announced("second", text),
    "task212_museum_last_room": lambda text: announced("last", text),
    "task064_sports_draw": lambda text: agree(pools.NUMBER_WORDS, text),
    "task233_post_same_address": lambda text: agree(pools.CITIES, text),
    "task005_food_sold_out": left_over,
    "task241_office_meeting_city": left_over,
    "task021_travel_origin": lambda text: re.search(r"from (\w+)", text)[1],
    "task231_post_destination": lambda text: re.search(r"to (\w+)", text)[1],
    "task202_hospital_pain": lambda text: "low" if int(re.search(r"\d+", text)[0]) < 10 else "high",
    "task133_calendar_weekend": lambda text: "yes" if text.rstrip(".").split()[-1].startswith("S") else "no",
    "task141_text_reverse": lambda text: " ".join(reversed(text.split())),
    "task251_space_weekend_launch": lambda text: "yes" if text.rstrip(".").split()[-1].startswith("S") else "no",
    "task253_space_repeat": str,
    "task144_text_last_word": lambda text: text.split()[-1],
}


@pytest.mark.parametrize("suffix", RULES)
def test_answers_follow_from_the_inputs(suffix: str) -> None:
    rule = RULES[suffix]
    for text, answer in cases(f"demo_{suffix}"):
        assert rule(text) == answer, text
    for shown in TASKS[f"demo_{suffix}"]["Negative Examples"]:
        assert rule(shown["input"]) != shown["output"], shown["input"]
