"""Train topics of errands: food orders, shop prices, travel plans and weather reports."""

from __future__ import annotations

from simtune.corpus.demo import pools
from simtune.corpus.demo.families import (
    extreme,
    kind,
    lookup,
    membership,
    ranked,
    remaining,
    same,
    slot,
    threshold,
    total,
)
from simtune.corpus.demo.spec import NUM_INSTANCES_SHORT, TaskSpec, Topic

FOOD = Topic(
    "Food Orders",
    "Restaurant",
    (
        TaskSpec(
            "demo_task001_food_guest_dish",
            "You are a waiter with the orders of a table. Find the guest you are asked about and reply "
            "with the dish of that guest.",
            lookup(pools.NAMES, pools.FOODS, "Orders: {records}. Guest: {query}"),
        ),
        TaskSpec(
            "demo_task002_food_dish_guest",
            "The kitchen has cooked a dish. Find it in the orders of the table and reply with the guest "
            "who wants to eat it.",
            lookup(pools.NAMES, pools.FOODS, "Orders: {records}. Dish: {query}", by_value=True),
        ),
        TaskSpec(
            "demo_task003_food_first_course",
            "A dinner has several courses, listed in the order they are served. Reply with the first course.",
            ranked(pools.FOODS, "first", "Dinner: {items}."),
        ),
        TaskSpec(
            "demo_task004_food_on_menu",
            "You are given a menu and what a guest wants to eat. Answer yes if the wanted dish is on the "
            "menu, otherwise answer no.",
            membership(pools.FOODS, "Menu: {items}. Wanted: {query}"),
        ),
        TaskSpec(
            "demo_task005_food_sold_out",
            "A hungry guest can choose between two dishes, but one is sold out in the kitchen. Reply with "
            "the dish that is left.",
            remaining(pools.FOODS, "Choice: {left} or {right}. Not possible: {out}"),
        ),
        TaskSpec(
            "demo_task006_food_bigger_eater",
            "Two guests eat slices of pizza. Reply with the guest who has more slices.",
            extreme(pools.NAMES, "{name}: {n} slices", largest=True),
        ),
    ),
)

SHOP = Topic(
    "Shop Prices",
    "Shopping",
    (
        TaskSpec(
            "demo_task011_shop_cheaper",
            "Two clothes are for sale in a shop, each with its price in coins. Reply with the one that costs less.",
            extreme(pools.CLOTHES, "{name}: {n} coins", largest=False),
        ),
        TaskSpec(
            "demo_task012_shop_dearer",
            "Two clothes are for sale in a shop, each with its price in coins. Reply with the one that costs more.",
            extreme(pools.CLOTHES, "{name}: {n} coins", largest=True),
        ),
        TaskSpec(
            "demo_task013_shop_colour",
            "A shop lists the clothes it sells with their colours. Reply with the colour of the wanted piece.",
            lookup(pools.CLOTHES, pools.COLOURS, "Shop: {records}. Wanted: {query}"),
        ),
        TaskSpec(
            "demo_task014_shop_bill",
            "A customer buys two things and pays in coins. Add the two prices and reply with the total as a word.",
            total("{a} for {left}, {b} for {right}", a=pools.CLOTHES, b=pools.CLOTHES),
        ),
        TaskSpec(
            "demo_task015_shop_price_class",
            "Judge the price of something in a shop window. Answer low if it costs less than 10 coins, "
            "otherwise answer high.",
            threshold("A {a} costs {n} coins.", 10, ("low", "high"), range(2, 18), a=pools.CLOTHES),
        ),
    ),
)

TRAVEL = Topic(
    "Travel Plans",
    "Travel",
    (
        TaskSpec(
            "demo_task021_travel_origin",
            "A traveller describes a journey between two cities. Reply with the city where the journey starts.",
            slot(
                "{name} goes from {start} to {goal} by {vehicle}.",
                "start",
                name=pools.NAMES,
                start=pools.CITIES,
                goal=pools.CITIES,
                vehicle=pools.VEHICLES,
            ),
        ),
        TaskSpec(
            "demo_task022_travel_goal",
            "A traveller describes a journey between two cities. Reply with the city where the journey ends.",
            slot(
                "{name} goes from {start} to {goal} by {vehicle}.",
                "goal",
                name=pools.NAMES,
                start=pools.CITIES,
                goal=pools.CITIES,
                vehicle=pools.VEHICLES,
            ),
        ),
        TaskSpec(
            "demo_task023_travel_vehicle",
            "A tourist tells you about a holiday trip. Reply with the vehicle that is used to travel.",
            slot(
                "{name} goes to {goal} by {vehicle} on {day}.",
                "vehicle",
                name=pools.NAMES,
                goal=pools.CITIES,
                vehicle=pools.VEHICLES,
                day=pools.DAYS,
            ),
        ),
        TaskSpec(
            "demo_task024_travel_last_stop",
            "The route of a holiday trip lists all cities in the order of the visit. Reply with the last city.",
            ranked(pools.CITIES, "last", "Route: {items}."),
        ),
        TaskSpec(
            "demo_task025_travel_same_city",
            "Two tourists tell you which city they fly to. Answer yes if it is the same city, otherwise answer no.",
            same(pools.CITIES, "{a} goes to {left}. {b} goes to {right}.", a=pools.NAMES, b=pools.NAMES),
            NUM_INSTANCES_SHORT,
        ),
        TaskSpec(
            "demo_task026_travel_bag_owner",
            "The bags of the tourists at the airport have different colours. Find the bag in the list and "
            "reply with the owner.",
            lookup(pools.COLOURS, pools.NAMES, "Bags: {records}. Bag: {query}"),
        ),
        TaskSpec(
            "demo_task027_travel_closed_airport",
            "A tourist can fly to one of two cities, but one airport is closed. Reply with the city that is left.",
            remaining(pools.CITIES, "Choice of {name}: {left} or {right}. Not possible: {out}", name=pools.NAMES),
        ),
    ),
)

WEATHER = Topic(
    "Weather Reports",
    "Weather",
    (
        TaskSpec(
            "demo_task031_weather_cold_warm",
            "Read the temperature in a weather report. Answer low below 10 degrees, otherwise answer high.",
            threshold(
                "{city}: {n} degrees on {day}.",
                10,
                ("low", "high"),
                range(2, 18),
                city=pools.CITIES,
                day=pools.DAYS,
            ),
        ),
        TaskSpec(
            "demo_task032_weather_warmer",
            "A weather report gives the temperature of two cities. Reply with the warmer city, the "
            "one with more "
            "degrees.",
            extreme(pools.CITIES, "{name}: {n} degrees", largest=True),
        ),
        TaskSpec(
            "demo_task033_weather_colder",
            "A weather report gives the temperature of two cities. Reply with the colder city, the "
            "one with fewer "
            "degrees.",
            extreme(pools.CITIES, "{name}: {n} degrees", largest=False),
        ),
        TaskSpec(
            "demo_task034_weather_city_sky",
            "The forecast names the sky over several cities. Find the city you are asked about and "
            "reply with its "
            "weather.",
            lookup(pools.CITIES, pools.SKIES, "Forecast: {records}. City: {query}"),
        ),
        TaskSpec(
            "demo_task035_weather_umbrella",
            "Decide from the weather forecast whether people need an umbrella. Answer yes if it will be "
            "rainy, stormy or snowy, otherwise answer no.",
            kind(
                "{day} in {city} will be {word}.",
                {"yes": pools.WET_SKIES, "no": pools.DRY_SKIES},
                day=pools.DAYS,
                city=pools.CITIES,
            ),
        ),
    ),
)

TOPICS = (FOOD, SHOP, TRAVEL, WEATHER)
