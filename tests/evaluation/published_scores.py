"""ROUGE-L and exact match as published, and texts to score with both."""

import string

from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

SCORER = RougeScorer(["rougeL"], use_stemmer=True)


def published_rouge_l(prediction, references, scorer=SCORER):
    return max(scorer.score(target=reference, prediction=prediction)["rougeL"].fmeasure for reference in references)


def published_exact_match(prediction, references):
    def normalized(text):
        kept = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
        return " ".join(kept.split())

    return any(normalized(prediction) == normalized(reference) for reference in references)


# Few distinct words, so that common subsequences are long and repeats many; and any text at all.
words = st.lists(st.sampled_from(["a", "the", "Runs", "running", "sses", "don't", "3.5", "é", "#"]), max_size=25)


texts = st.one_of(
    words.map(" ".join),
    st.text(max_size=30),
    st.text("abİßŉ \n-_'1", max_size=30),
    st.text("aB \t\x1c\x7f.!", max_size=30),
)
