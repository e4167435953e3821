"""Reports how well the committed `ranker.onnx` ranks held-out films, against ranking them by popularity.

    python evaluate.py path/to/movies.json

Two questions, kept apart. Without tastes, does the score rank films as their real IMDb ratings do? With
tastes, does it rank them as the made-up users of dataset.py would? Intervals are 95 % bootstrap intervals,
over the held-out films in the first table and over the users in the second. Fixed seeds: the same model gives the same table.
"""

import json
import os
import sys

import numpy as np
import onnxruntime
from scipy.stats import rankdata

import features
from dataset import Films, Users

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 4
RESAMPLES = 400
LIST_LENGTH, LISTS, LISTS_PER_RESAMPLE, TOP = 20, 2000, 200, 5
TEST_USERS = 500


def scores(session, rows):
    return session.run(["score"], {"features": rows.toarray().astype(np.float32)})[0].reshape(-1)


def spearman(predicted, actual):
    """Spearman's rank correlation of each row of two matrices (ties share their mean rank)."""
    one, two = (rankdata(np.atleast_2d(side), axis=1) for side in (predicted, actual))
    one, two = one - one.mean(1, keepdims=True), two - two.mean(1, keepdims=True)
    scale = np.sqrt((one**2).sum(1) * (two**2).sum(1))
    return np.divide((one * two).sum(1), scale, out=np.zeros(len(scale)), where=scale > 0)


def ndcg(predicted, actual):
    """NDCG@5 of each row; a film's gain is 2^q - 1, q from 4 (best fifth of its own list) to 0 (worst)."""
    places = rankdata(-np.asarray(actual), axis=1, method="min") - 1
    gains = 2.0 ** (4 - places * 5 // LIST_LENGTH) - 1
    order = np.argsort(-np.asarray(predicted), axis=1, kind="stable")[:, :TOP]
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    ideal = -np.sort(-gains, axis=1)[:, :TOP] @ discounts
    return np.take_along_axis(gains, order, axis=1) @ discounts / ideal


def lists_of(films, generator, count):
    """Lists of distinct films, drawn from some (possibly repeated) films."""
    pool = np.unique(films)
    return np.array([generator.choice(pool, LIST_LENGTH, replace=False) for _ in range(count)])


def measure(ranker, actual, films, lists):
    """The three measures of one ranker: over all films, and the means over lists."""
    return np.array(
        [
            spearman(ranker[films], actual[films])[0],
            spearman(ranker[lists], actual[lists]).mean(),
            ndcg(ranker[lists], actual[lists]).mean(),
        ]
    )


def without_tastes(session, films):
    """Every ranker against the real ratings: {name: (estimates, low, high)}, the differences to the model too."""
    test = films.test
    rankers = {
        "the model, no tastes": scores(session, films.rows([({}, film[0]) for film in test])),
        "IMDb votes": np.array([film[2] for film in test], dtype=float),
        "US takings": np.array([film[3] for film in test], dtype=float),
        "chance": np.random.default_rng(SEED).random(len(test)),
    }
    actual, generator = np.array([film[1] for film in test]), np.random.default_rng(SEED)
    everyone = np.arange(len(test))
    lists = lists_of(everyone, generator, LISTS)
    estimates = {name: measure(ranker, actual, everyone, lists) for name, ranker in rankers.items()}
    samples = {name: [] for name in rankers}
    for _ in range(RESAMPLES):
        drawn = generator.integers(0, len(test), len(test))
        lists = lists_of(drawn, generator, LISTS_PER_RESAMPLE)
        for name, ranker in rankers.items():
            samples[name].append(measure(ranker, actual, drawn, lists))
    best = next(iter(rankers))
    for other in ("IMDb votes", "US takings"):
        estimates[f"model − {other}"] = estimates[best] - estimates[other]
        samples[f"model − {other}"] = np.array(samples[best]) - np.array(samples[other])
    return {name: (estimate, *np.percentile(samples[name], (2.5, 97.5), axis=0)) for name, estimate in estimates.items()}


def with_tastes(session, films):
    """Lists of held-out films, one a made-up user, against that user's preference (Spearman, NDCG@5)."""
    people = Users(films, "test")
    judged = []
    for _ in range(TEST_USERS):
        tastes = people.tastes()
        judged.append((tastes, people.candidates(tastes, films.test, LIST_LENGTH)))
    shape = (TEST_USERS, LIST_LENGTH)
    pairs = [(tastes, film) for tastes, chosen in judged for film in chosen]
    actual = np.array([people.preference(tastes, film) for tastes, film in pairs]).reshape(shape)
    matches = [taste_count(films.store, tastes, film[0]) for tastes, film in pairs]
    rankers = {
        "the model, with tastes": scores(session, films.rows([(tastes, film[0]) for tastes, film in pairs])),
        "the model, tastes withheld": scores(session, films.rows([({}, film[0]) for _, film in pairs])),
        "number of tastes met": np.array(matches, dtype=float),
        "IMDb votes": np.array([film[2] for _, film in pairs], dtype=float),
        "US takings": np.array([film[3] for _, film in pairs], dtype=float),
    }
    generator, table = np.random.default_rng(SEED), {}
    drawn = generator.integers(0, TEST_USERS, (RESAMPLES, TEST_USERS))
    for name, ranker in rankers.items():
        measures = np.stack([spearman(ranker.reshape(shape), actual), ndcg(ranker.reshape(shape), actual)], axis=1)
        low, high = np.percentile(measures[drawn].mean(axis=1), (2.5, 97.5), axis=0)
        table[name] = (measures.mean(axis=0), low, high)
    return table


def taste_count(store, tastes, key):
    """How many of the user's declared lists the film meets."""
    return sum(
        features.attribute(store[key], name) in features.distinct(tastes.get(taste)) for taste, name in features.DECLARED
    )


def show(title, columns, table):
    """Prints a Markdown table."""
    print(f"\n{title}\n\n| ranked by | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, (estimate, low, high) in table.items():
        cells = [f"{e:.3f} [{a:.3f}, {b:.3f}]" for e, a, b in zip(estimate, low, high)]
        print(f"| {name} | {' | '.join(cells)} |")


def main():
    films = Films(sys.argv[1])
    with open(os.path.join(HERE, "movies.jsonl"), encoding="utf-8") as file:
        committed = {entry["key"]: entry["value"] for entry in map(json.loads, file)}
    if committed != films.store:
        sys.exit("movies.jsonl is not what make-store.py makes of this table")
    session = onnxruntime.InferenceSession(os.path.join(HERE, "ranker.onnx"), providers=["CPUExecutionProvider"])
    print(f"{len(films.train)} films to learn from, {len(films.test)} held out")
    columns = ("Spearman, all held-out films", f"Spearman, lists of {LIST_LENGTH}", f"NDCG@{TOP}, lists of {LIST_LENGTH}")
    show("Without tastes, against the real IMDb rating", columns, without_tastes(session, films))
    show(f"With tastes, against the preference of {TEST_USERS} made-up users", columns[1:], with_tastes(session, films))


if __name__ == "__main__":
    main()
