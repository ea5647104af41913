"""Train topics of places to go to: library, school, sports, zoo and concert hall."""

from __future__ import annotations

from simtune.corpus.demo import pools
from simtune.corpus.demo.families import count, extreme, kind, lookup, membership, ranked, same, slot, total
from simtune.corpus.demo.spec import NUM_INSTANCES_SHORT, TaskSpec, Topic

LIBRARY = Topic(
    "Library Loans",
    "Books",
    (
        TaskSpec(
            "demo_task041_library_reader_book",
            "A librarian keeps a list of readers and the book each one has borrowed. Reply with the book "
            "of the reader in question.",
            lookup(pools.NAMES, pools.BOOKS, "Loans: {records}. Reader: {query}"),
        ),
        TaskSpec(
            "demo_task042_library_book_reader",
            "A librarian wants a borrowed book back. Find the book in the list of loans and reply with "
            "the reader who has it.",
            lookup(pools.NAMES, pools.BOOKS, "Loans: {records}. Book: {query}", by_value=True),
        ),
        TaskSpec(
            "demo_task043_library_return_day",
            "A note at the library desk says who borrows a book and when it comes back. Reply with "
            "the day of the "
            "return.",
            slot(
                "{name} takes the {book} on {start} and returns it on {end}.",
                "end",
                name=pools.NAMES,
                book=pools.BOOKS,
                start=pools.DAYS,
                end=pools.DAYS,
            ),
        ),
        TaskSpec(
            "demo_task044_library_has_book",
            "You are given the books on a library shelf and a book a reader looks for. Answer yes if the "
            "book is on the shelf, otherwise answer no.",
            membership(pools.BOOKS, "Shelf: {items}. Wanted: {query}"),
        ),
        TaskSpec(
            "demo_task045_library_num_books",
            "A reader brings a pile of books back to the library. Count the books and reply with the number as a word.",
            count(pools.BOOKS, "Books: {items}."),
        ),
        TaskSpec(
            "demo_task046_library_fewer_pages",
            "Two readers tell how many pages they have read. Reply with the reader who has fewer pages.",
            extreme(pools.NAMES, "{name}: {n} pages", largest=False),
        ),
    ),
)

SCHOOL = Topic(
    "School Timetables",
    "School",
    (
        TaskSpec(
            "demo_task051_school_day_lesson",
            "A pupil shows you the timetable of a class. Reply with the lesson on the day you are asked about.",
            lookup(pools.WORKDAYS, pools.SUBJECTS, "Lessons: {records}. Day: {query}"),
        ),
        TaskSpec(
            "demo_task052_school_lesson_day",
            "A pupil shows you the timetable of a class. Reply with the day on which the lesson in question is taught.",
            lookup(pools.WORKDAYS, pools.SUBJECTS, "Lessons: {records}. Lesson: {query}", by_value=True),
        ),
        TaskSpec(
            "demo_task053_school_second_lesson",
            "The lessons of a school day are listed in order. Reply with the second lesson.",
            ranked(pools.SUBJECTS, "second", "School: {items}."),
        ),
        TaskSpec(
            "demo_task054_school_num_lessons",
            "A teacher writes the lessons of a school day on the board. Count the lessons and reply with "
            "the number as a word.",
            count(pools.SUBJECTS, "Lessons: {items}."),
        ),
        TaskSpec(
            "demo_task055_school_last_lesson",
            "The lessons of a school day are listed in order. Reply with the last lesson before the pupils go home.",
            ranked(pools.SUBJECTS, "last", "School: {items}."),
            NUM_INSTANCES_SHORT,
        ),
    ),
)

SPORTS = Topic(
    "Sports Results",
    "Sports",
    (
        TaskSpec(
            "demo_task061_sports_winner",
            "A match report gives the goals of two teams. Reply with the winner, the team with more goals.",
            extreme(pools.CITIES, "{name}: {n} goals", largest=True),
        ),
        TaskSpec(
            "demo_task062_sports_loser",
            "A match report gives the goals of two teams. Reply with the loser, the team with fewer goals.",
            extreme(pools.CITIES, "{name}: {n} goals", largest=False),
        ),
        TaskSpec(
            "demo_task063_sports_champion",
            "Runners cross the finish line of a race one after the other. Reply with the champion, who is "
            "the first in the list.",
            ranked(pools.NAMES, "first", "Race: {items}."),
        ),
        TaskSpec(
            "demo_task064_sports_draw",
            "Two football teams played a match. Answer yes if both have the same number of goals, otherwise answer no.",
            same(
                pools.NUMBER_WORDS[2:],
                "{a} has {left} goals. {b} has {right} goals.",
                a=pools.CITIES,
                b=pools.CITIES,
            ),
        ),
        TaskSpec(
            "demo_task065_sports_total_goals",
            "Add the goals of both football teams and reply with the total of the match as a word.",
            total("{a} has {left} goals, {b} has {right} goals", a=pools.CITIES, b=pools.CITIES),
        ),
        TaskSpec(
            "demo_task066_sports_training_day",
            "A coach has a list of football players and the day each one trains. Reply with the day of "
            "the player in question.",
            lookup(pools.NAMES, pools.DAYS, "Training: {records}. Player: {query}"),
        ),
    ),
)

ANIMALS = Topic(
    "Animal Facts",
    "Nature",
    (
        TaskSpec(
            "demo_task101_animal_farm_or_wild",
            "Classify the animal in the sentence. Answer farm if it lives with people, or wild if it "
            "lives in the forest or the jungle.",
            kind(
                "{name} sees a {word} at {time}.",
                {"farm": pools.FARM_ANIMALS, "wild": pools.WILD_ANIMALS},
                name=pools.NAMES,
                time=("night", "noon"),
            ),
        ),
        TaskSpec(
            "demo_task102_animal_name",
            "A child describes an animal in a picture book. Reply with the name of the animal.",
            slot(
                "The {colour} {animal} eats the {fruit}.",
                "animal",
                colour=pools.COLOURS,
                animal=pools.ANIMALS,
                fruit=pools.FRUITS,
            ),
        ),
        TaskSpec(
            "demo_task103_animal_colour",
            "A child describes an animal in a picture book. Reply with the colour of the animal.",
            slot(
                "The {colour} {animal} eats the {fruit}.",
                "colour",
                colour=pools.COLOURS,
                animal=pools.ANIMALS,
                fruit=pools.FRUITS,
            ),
        ),
        TaskSpec(
            "demo_task104_animal_count",
            "A keeper lists the animals in a cage. Count the animals and reply with the number as a word.",
            count(pools.ANIMALS, "Cage: {items}."),
        ),
        TaskSpec(
            "demo_task105_animal_heavier",
            "The vet weighs two animals. Reply with the heavier animal, the one with more kilos.",
            extreme(pools.ANIMALS, "{name}: {n} kilos", largest=True),
        ),
    ),
)

MUSIC = Topic(
    "Music Lessons",
    "Music",
    (
        TaskSpec(
            "demo_task111_music_player_instrument",
            "An orchestra has a list of players and their instruments. Reply with the instrument of "
            "the musician in "
            "question.",
            lookup(pools.NAMES, pools.INSTRUMENTS, "Band: {records}. Player: {query}"),
        ),
        TaskSpec(
            "demo_task112_music_instrument_player",
            "A conductor asks who plays an instrument. Find the instrument in the list of the band and "
            "reply with the musician.",
            lookup(pools.NAMES, pools.INSTRUMENTS, "Band: {records}. Instrument: {query}", by_value=True),
        ),
        TaskSpec(
            "demo_task113_music_concert_review",
            "Decide what a critic thinks of a concert. Answer good if the music is praised, otherwise answer bad.",
            kind(
                "{name} on the {tool} was {word}.",
                {"good": pools.PRAISE, "bad": pools.BLAME},
                name=pools.NAMES,
                tool=pools.INSTRUMENTS,
            ),
        ),
        TaskSpec(
            "demo_task114_music_second_song",
            "The musicians of a concert play one after the other. Reply with the instrument that is heard second.",
            ranked(pools.INSTRUMENTS, "second", "Concert: {items}."),
        ),
        TaskSpec(
            "demo_task115_music_last_singer",
            "The singers of a choir go on stage one after the other. Reply with the singer who is the "
            "last in the list.",
            ranked(pools.NAMES, "last", "Choir: {items}."),
        ),
    ),
)

TOPICS = (LIBRARY, SCHOOL, SPORTS, ANIMALS, MUSIC)
