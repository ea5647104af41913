"""The stemmer without nltk around it."""

from __future__ import annotations

import json
import subprocess
import sys

ALONE = """
import json, sys
from simtune.evaluation.porter_stemmer import porter_stem

words = json.loads(sys.argv[1])
alone = [porter_stem()(word) for word in words]
loaded = sorted({name.partition(".")[0] for name in sys.modules} & {"nltk", "sklearn", "scipy"})
from rouge_score.tokenizers import porter
import nltk
whole = [porter.PorterStemmer().stem(word) for word in words]
again = [porter_stem()(word) for word in words]
print(json.dumps([alone, loaded, whole, again, nltk.word_tokenize is not None]))
"""

# One for each step of the algorithm, and words that nltk's extensions treat otherwise.
WORDS = [
    *("caresses", "ponies", "agreed", "plastered", "motoring", "happy", "relational", "vietnamization", "triplicate"),
    *("hopefulness", "revival", "adjustable", "probate", "controll", "skies", "dying", "news", "innings", "spied", "a"),
]


def test_it_is_the_one_of_rouge_score_and_loads_nothing_else_and_nltk_can_be_loaded_afterwards() -> None:
    command = [sys.executable, "-c", ALONE, json.dumps(WORDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    alone, loaded, whole, again, has_all = json.loads(done.stdout)
    assert alone == whole == again
    assert alone != WORDS
    assert loaded == []
    assert has_all
