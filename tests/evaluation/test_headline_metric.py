from simtune.evaluation.headline_metric import EXACT_MATCH_CATEGORIES, category_key, headline_metric


def test_the_six_exact_match_categories_are_the_published_ones():
    names = [
        "Textual Entailment",
        "Cause Effect Classification",
        "Coreference Resolution",
        "Dialogue Act Recognition",
        "Answerability Classification",
        "Word Analogy",
    ]
    assert {category_key(name) for name in names} == EXACT_MATCH_CATEGORIES
    assert all(headline_metric(name) == "exact-match" for name in names)
    assert headline_metric("Grammar Error Correction") == headline_metric("something new") == "rouge-l"
