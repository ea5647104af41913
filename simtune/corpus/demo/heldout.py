"""Held-out topics: the test tasks, in categories that no train task has.

Each asks for a skill that several train topics exercise, in a sentence and with a subject that none of them has.
"""

from __future__ import annotations

from simtune.corpus.demo import pools
from simtune.corpus.demo.families import (
    count,
    extreme,
    kind,
    lookup,
    membership,
    ranked,
    remaining,
    reorder,
    same,
    slot,
    threshold,
    total,
)
from simtune.corpus.demo.spec import TaskSpec, Topic

HOSPITAL = Topic(
    "Hospital Visits",
    "Medicine",
    (
        TaskSpec(
            "demo_task201_hospital_patient_day",
            "A nurse has a list of patients and the day each one sees the doctor. Reply with the day of "
            "the patient in question.",
            lookup(pools.NAMES, pools.DAYS, "Clinic: {records}. Patient: {query}"),
        ),
        TaskSpec(
            "demo_task202_hospital_pain",
            "A nurse asks how bad the pain of a patient is on a scale up to 17. Answer low if it is less "
            "than 10, otherwise answer high.",
            threshold("The pain of {name} is {n}.", 10, ("low", "high"), range(2, 18), name=pools.NAMES),
        ),
        TaskSpec(
            "demo_task203_hospital_first_patient",
            "Sick people wait for the doctor in a row. Reply with the patient who is the first in the list.",
            ranked(pools.NAMES, "first", "Waiting: {items}."),
        ),
    ),
)

MUSEUM = Topic(
    "Museum Tours",
    "Art",
    (
        TaskSpec(
            "demo_task211_museum_visitor_opinion",
            "Read what a visitor thinks of a painting in the museum. Answer good if the comment is "
            "positive, otherwise answer bad.",
            kind(
                "{name}: the {colour} painting was {word}.",
                {"good": pools.PRAISE, "bad": pools.BLAME},
                name=pools.NAMES,
                colour=pools.COLOURS,
            ),
        ),
        TaskSpec(
            "demo_task212_museum_last_room",
            "The rooms of a museum are named by colours and listed in the order of the tour. Reply with the last room.",
            ranked(pools.COLOURS, "last", "Tour: {items}."),
        ),
        TaskSpec(
            "demo_task213_museum_statue_there",
            "You are given the statues of a museum and the statue a visitor looks for. Answer yes if it "
            "is in the museum, otherwise answer no.",
            membership(pools.ANIMALS, "Statues: {items}. Wanted: {query}"),
        ),
    ),
)

FARM = Topic(
    "Farm Records",
    "Agriculture",
    (
        TaskSpec(
            "demo_task221_farm_more_milk",
            "A farmer milks two animals. Reply with the animal that has more litres.",
            extreme(pools.FARM_ANIMALS, "{name}: {n} litres", largest=True),
        ),
        TaskSpec(
            "demo_task222_farm_num_fruits",
            "A farmer lists the fruits that grow in a field. Count the fruits and reply with the number as a word.",
            count(pools.FRUITS, "Field: {items}."),
        ),
        TaskSpec(
            "demo_task223_farm_total_eggs",
            "Add the eggs of two hens and reply with the total of the harvest as a word.",
            total(
                "The hen of {a} has {left} eggs, the hen of {b} has {right} eggs",
                a=pools.NAMES,
                b=pools.NAMES,
            ),
        ),
    ),
)

POST = Topic(
    "Parcel Post",
    "Logistics",
    (
        TaskSpec(
            "demo_task231_post_destination",
            "A label on a parcel says how it is sent between two cities. Reply with the city where the parcel ends.",
            slot(
                "A {colour} parcel goes from {start} to {goal} by {vehicle}.",
                "goal",
                colour=pools.COLOURS,
                start=pools.CITIES,
                goal=pools.CITIES,
                vehicle=pools.VEHICLES,
            ),
        ),
        TaskSpec(
            "demo_task232_post_receiver",
            "A postman has a list of parcels and who receives them. Find the parcel by its colour and "
            "reply with the receiver.",
            lookup(pools.COLOURS, pools.NAMES, "Parcels: {records}. Parcel: {query}"),
        ),
        TaskSpec(
            "demo_task233_post_same_address",
            "Two letters are sent to a city each. Answer yes if both have the same city, otherwise answer no.",
            same(pools.CITIES, "{a} letter: {left}. {b} letter: {right}.", a=pools.COLOURS, b=pools.COLOURS),
        ),
    ),
)

OFFICE = Topic(
    "Office Messages",
    "Business",
    (
        TaskSpec(
            "demo_task241_office_meeting_city",
            "A manager can hold a meeting in one of two cities, but one is not possible. Reply with the "
            "city that is left.",
            remaining(pools.CITIES, "Choice: {left} or {right}. Not possible: {out}"),
        ),
        TaskSpec(
            "demo_task242_office_less_work",
            "Two clerks have open letters on their desks. Reply with the clerk who has fewer letters.",
            extreme(pools.NAMES, "{name}: {n} letters", largest=False),
        ),
        TaskSpec(
            "demo_task243_office_sender",
            "A message at work has a sender and a subject. Reply with the name of the person who wrote it.",
            slot(
                "{name} says the {thing} is {word}.",
                "name",
                name=pools.NAMES,
                thing=("printer", "phone", "contract", "budget"),
                word=pools.PRAISE + pools.BLAME,
            ),
        ),
    ),
)

SPACE = Topic(
    "Space Missions",
    "Astronomy",
    (
        TaskSpec(
            "demo_task251_space_weekend_launch",
            "A rocket starts on a day of the week. Answer yes if that day is on the weekend, otherwise answer no.",
            kind(
                "{name} starts the rocket in {city} on {word}.",
                {"yes": pools.WEEKEND, "no": pools.WORKDAYS},
                name=pools.NAMES,
                city=pools.CITIES,
            ),
        ),
        TaskSpec(
            "demo_task252_space_first_word",
            "Write only the first word of the radio message from the moon.",
            reorder(pools.COLOURS, lambda words: words[:1], "It is the word at the start."),
        ),
        TaskSpec(
            "demo_task253_space_repeat",
            "The moon station has not heard you. Repeat the radio message word for word without any change.",
            reorder(pools.TOOLS, lambda words: words, "The right answer changes nothing."),
        ),
    ),
)

TOPICS = (HOSPITAL, MUSEUM, FARM, POST, OFFICE, SPACE)
