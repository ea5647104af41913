"""Word pools that every demo task draws from.

The pools are few and shared on purpose: a model of a few hundred thousand weights that trains for seconds can
answer a held-out task only with words it has already written in some training task. What separates topics is
their definitions and sentences, not a private vocabulary of answers. Names and the like are ordinary first names
and capitals, nobody's data.
"""

from __future__ import annotations

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Kate", "Leo")
CITIES = ("Rome", "Oslo", "Paris", "Cairo", "Lima", "Delhi", "Tokyo", "Madrid")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WEEKEND = DAYS[5:]
WORKDAYS = DAYS[:5]
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
SUMMER = MONTHS[5:8]
WINTER = (MONTHS[11], *MONTHS[:2])
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "pink")

FOODS = ("soup", "rice", "pie", "bread", "cheese", "salad", "pasta", "cake")
FRUITS = ("apple", "pear", "plum", "peach", "cherry", "lemon")
FARM_ANIMALS = ("dog", "horse", "cow", "sheep", "goat", "pig")
WILD_ANIMALS = ("lion", "tiger", "bear", "wolf", "fox", "zebra")
ANIMALS = FARM_ANIMALS + WILD_ANIMALS

INSTRUMENTS = ("piano", "violin", "flute", "drum", "guitar", "harp")
SUBJECTS = ("history", "maths", "art", "science", "drama", "Latin")
BOOKS = ("atlas", "novel", "diary", "comic", "poem", "cookbook")
TOOLS = ("hammer", "saw", "spade", "rake", "ladder", "rope")
VEHICLES = ("bus", "train", "car", "bike", "boat", "plane")
CLOTHES = ("shirt", "coat", "hat", "scarf", "skirt", "belt")
ROOM_THINGS = ("room", "bed", "bath", "view", "staff", "pool")

DRY_SKIES = ("sunny", "clear", "bright")
WET_SKIES = ("rainy", "stormy", "snowy")
SKIES = DRY_SKIES + WET_SKIES

PRAISE = ("great", "lovely", "superb", "wonderful", "excellent", "pleasant")
BLAME = ("awful", "terrible", "boring", "dreadful", "poor", "horrible")
OPINIONS = PRAISE + BLAME

# Index = value: NUMBER_WORDS[3] is "three".
NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
NUMBER_WORDS_FROM_TWO = NUMBER_WORDS[2:]
