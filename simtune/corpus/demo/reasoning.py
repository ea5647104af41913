"""Train topics of judgement and symbols: reviews, the calendar, text, numbers and tools."""

from __future__ import annotations

from simtune.corpus.demo import pools
from simtune.corpus.demo.families import (
    extreme,
    kind,
    lookup,
    membership,
    ranked,
    remaining,
    reorder,
    same,
    slot,
    successor,
    threshold,
    total,
)
from simtune.corpus.demo.spec import NUM_INSTANCES_SHORT, TaskSpec, Topic

HOTEL = Topic(
    "Guest Reviews",
    "Reviews",
    (
        TaskSpec(
            "demo_task121_review_opinion",
            "Read the opinion of a hotel guest. Answer good if the comment is positive, otherwise answer bad.",
            kind(
                "{name}: the {thing} was {word}.",
                {"good": pools.PRAISE, "bad": pools.BLAME},
                name=pools.NAMES,
                thing=pools.ROOM_THINGS,
            ),
        ),
        TaskSpec(
            "demo_task122_review_recommend",
            "Read the review of a film. Answer yes if the viewer liked it and would recommend it, otherwise answer no.",
            kind(
                "{name} says the {part} is {word}.",
                {"yes": pools.PRAISE, "no": pools.BLAME},
                name=pools.NAMES,
                part=("plot", "actor", "film", "ending"),
            ),
        ),
        TaskSpec(
            "demo_task123_review_feeling_word",
            "A hotel guest leaves a comment. Reply with the word of the comment that shows the feeling of the guest.",
            slot(
                "{name}: the {thing} was {word}.",
                "word",
                name=pools.NAMES,
                thing=pools.ROOM_THINGS,
                word=pools.PRAISE + pools.BLAME,
            ),
        ),
        TaskSpec(
            "demo_task124_review_author",
            "A hotel guest leaves a comment. Reply with the name of the guest who wrote it.",
            slot(
                "{name} says the {thing} is {word}.",
                "name",
                name=pools.NAMES,
                thing=pools.ROOM_THINGS,
                word=pools.PRAISE + pools.BLAME,
            ),
        ),
    ),
)

CALENDAR = Topic(
    "Calendar Dates",
    "Time",
    (
        TaskSpec(
            "demo_task131_calendar_next_day",
            "A diary entry names a day of the week. Reply with the day that comes after it.",
            successor(pools.DAYS, 1, "{name} has a {thing} on {word}.", name=pools.NAMES, thing=("date", "meeting")),
        ),
        TaskSpec(
            "demo_task132_calendar_previous_month",
            "A diary entry names a month of the year. Reply with the month that comes before it.",
            successor(pools.MONTHS, -1, "{name} was born in {word}.", name=pools.NAMES),
        ),
        TaskSpec(
            "demo_task133_calendar_weekend",
            "A diary entry names a day of the week. Answer yes if that day is on the weekend, otherwise answer no.",
            kind(
                "{name} has a {thing} on {word}.",
                {"yes": pools.WEEKEND, "no": pools.WORKDAYS},
                name=pools.NAMES,
                thing=("date", "meeting"),
            ),
        ),
        TaskSpec(
            "demo_task134_calendar_season",
            "Classify the month of a birthday by its season in the north. Answer summer or winter.",
            kind(
                "{name} and {other} were born in {word}.",
                {"summer": pools.SUMMER, "winter": pools.WINTER},
                name=pools.NAMES,
                other=pools.NAMES,
            ),
        ),
        TaskSpec(
            "demo_task135_calendar_same_day",
            "Two friends compare the dates in their calendars. Answer yes if both have the same day, "
            "otherwise answer no.",
            same(pools.DAYS, "{a}: {left}. {b}: {right}.", a=pools.NAMES, b=pools.NAMES),
        ),
    ),
)

WORDS = Topic(
    "Text Manipulation",
    "Language",
    (
        TaskSpec(
            "demo_task141_text_reverse",
            "Write the words of the text in reverse order, from the last word to the first.",
            reorder(pools.COLOURS, lambda words: words[::-1], "The words are read from the end."),
        ),
        TaskSpec(
            "demo_task142_text_copy",
            "Repeat the text word for word without any change.",
            reorder(pools.FRUITS, lambda words: words, "The right answer changes nothing."),
        ),
        TaskSpec(
            "demo_task143_text_first_word",
            "Write only the first word of the text.",
            reorder(pools.TOOLS, lambda words: words[:1], "It is the word at the start."),
        ),
        TaskSpec(
            "demo_task144_text_last_word",
            "Write only the last word of the text.",
            reorder(pools.FRUITS, lambda words: words[-1:], "It is the word at the end."),
        ),
        TaskSpec(
            "demo_task145_text_swap",
            "The text consists of two words. Swap them, so that the second word is written before the first.",
            reorder(pools.NAMES, lambda words: words[::-1], "The two words change places.", size=2),
            NUM_INSTANCES_SHORT,
        ),
    ),
)

NUMBERS = Topic(
    "Number Puzzles",
    "Mathematics",
    (
        TaskSpec(
            "demo_task151_number_sum",
            "Solve the sum in words. Add the two numbers and reply with the result as a word.",
            total("{name}: {left} plus {right}", name=pools.NAMES),
        ),
        TaskSpec(
            "demo_task152_number_equal",
            "Compare two numbers in words. Answer yes if both are the same, otherwise answer no.",
            same(pools.NUMBER_WORDS, "{name}: {left} and {right}", name=pools.NAMES),
        ),
        TaskSpec(
            "demo_task153_number_size",
            "Classify the number in the puzzle. Answer low if it is less than 10, otherwise answer high.",
            threshold("The number of {name} is {n}.", 10, ("low", "high"), range(2, 18), name=pools.NAMES),
        ),
        TaskSpec(
            "demo_task154_number_in_list",
            "You are given a list of number words and one more number. Answer yes if that number is in "
            "the list, otherwise answer no.",
            membership(pools.NUMBER_WORDS, "List: {items}. Wanted: {query}"),
            NUM_INSTANCES_SHORT,
        ),
    ),
)

TOOLS = Topic(
    "Tool Shed",
    "Household",
    (
        TaskSpec(
            "demo_task161_tool_lent_to",
            "A carpenter lends tools to the neighbours. Find the tool in the list and reply with the "
            "neighbour who has it.",
            lookup(pools.TOOLS, pools.NAMES, "Lent: {records}. Tool: {query}"),
        ),
        TaskSpec(
            "demo_task162_tool_colour",
            "A painted tool hangs on the wall of the garage. Reply with the colour of the paint.",
            slot(
                "The {colour} {tool} of {name} hangs here.",
                "colour",
                colour=pools.COLOURS,
                tool=pools.TOOLS,
                name=pools.NAMES,
            ),
        ),
        TaskSpec(
            "demo_task163_tool_broken",
            "A carpenter can use one of two tools for a repair, but one of them is broken. Reply with the "
            "tool that is left.",
            remaining(pools.TOOLS, "Choice of {name}: {left} or {right}. Not possible: {out}", name=pools.NAMES),
        ),
        TaskSpec(
            "demo_task164_tool_longer",
            "Two tools in the garage have a length in inches. Reply with the longer tool, the one with more inches.",
            extreme(pools.TOOLS, "{name}: {n} inches", largest=True),
        ),
        TaskSpec(
            "demo_task165_tool_in_box",
            "You are given the tools in a box and the tool a carpenter needs. Answer yes if it is in the "
            "box, otherwise answer no.",
            membership(pools.TOOLS, "Box: {items}. Wanted: {query}"),
        ),
        TaskSpec(
            "demo_task166_tool_last_paint",
            "A fence is painted in several colours, listed in the order of the layers. Reply with the last colour.",
            ranked(pools.COLOURS, "last", "Paint: {items}."),
        ),
    ),
)

TOPICS = (HOTEL, CALENDAR, WORDS, NUMBERS, TOOLS)
