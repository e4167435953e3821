"""The rated films, their fixed split into training and held-out ones, and made-up users with tastes.

What is real: films, attributes, ratings, votes, takings. What is made up: the users. The table has no
users, so a user is an enthusiast of a real training film, and how much a matching taste is worth is the
constant table `WORTH` below. README.md says what follows from that.
"""

import importlib
import json
import random
from collections import defaultdict

import numpy as np
from scipy.sparse import csr_matrix

import features

make_store = importlib.import_module("make-store")

# Every fifth film, in order of year, is held out: each decade is in both parts in proportion.
HELD_OUT_EVERY, HELD_OUT_AT = 5, 2

# What a full match of a taste adds to a film's rating in a made-up user's eyes, in rating points.
# Declared by us, not learned from people: a matching genre is worth about one standard deviation (1.25).
WORTH = {"genre": 1.2, "director": 0.8, "mpaa": 0.3, "decade": 0.4, "liked": 1.2}

# How many liked films a made-up user has at most, and how well rated a film must be to be liked.
LIKED_MAX = 5
LIKED_RATING_MIN = 6.5


class Films:
    """The store, and the rated films as two lists of (key, rating, votes, takings)."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            table = list(make_store.films(json.load(file)))
        self.store = {key: record for key, record, _ in table}
        rated = [
            (key, float(row["IMDB Rating"]), row["IMDB Votes"], row["US Gross"] or 0)
            for key, _, row in table
            if row["IMDB Rating"] is not None
        ]
        rated.sort(key=lambda film: (self.store[film[0]].get("year", 0), features.fnv1a(film[0].encode())))
        self.test = rated[HELD_OUT_AT::HELD_OUT_EVERY]
        held_out = {film[0] for film in self.test}
        self.train = [film for film in rated if film[0] not in held_out]

    def rows(self, pairs):
        """The features of (tastes, key) pairs as a sparse matrix."""
        columns, amounts, ends = [], [], [0]
        for tastes, key in pairs:
            row = features.row(self.store, tastes, key)
            columns.extend(row.keys())
            amounts.extend(row.values())
            ends.append(len(columns))
        return csr_matrix((amounts, columns, ends), shape=(len(pairs), features.WIDTH), dtype=np.float32)


class Users:
    """Makes up users, and says what a user thinks of a film. Looks at training films only."""

    def __init__(self, films, seed):
        self.films = films
        self.random = random.Random(seed)
        self.affinity = genre_affinity(films)
        self.sharing = defaultdict(list)
        for key, rating, _, _ in films.train:
            if rating >= LIKED_RATING_MIN:
                for name in features.LIKED:
                    self.sharing[name, features.attribute(films.store[key], name)].append(key)

    def tastes(self):
        """The tastes of an enthusiast of one training film: some of its attributes, and films that share them."""
        pick, anchor = self.random, None
        while anchor is None or "genre" not in anchor:
            anchor = self.films.store[pick.choice(self.films.train)[0]]
        tastes = {}
        for key, name in features.DECLARED:
            value = features.attribute(anchor, name)
            if value is not None and pick.random() < 0.5:
                tastes[key] = [value]
        if "genres" in tastes and pick.random() < 0.4:
            others = sorted({genre for genre, _ in self.affinity} - set(tastes["genres"]))
            tastes["genres"].append(pick.choice(others))
        if not tastes or pick.random() < 0.5:
            tastes["liked"] = self.liked(anchor)
        return tastes

    def liked(self, anchor):
        """Up to `LIKED_MAX` well-rated training films that each share an attribute with the anchor."""
        titles = []
        for _ in range(self.random.randint(1, LIKED_MAX)):
            name = self.random.choice(features.LIKED)
            titles += self.random.sample(self.sharing[name, features.attribute(anchor, name)] or [None], 1)
        return sorted({title for title in titles if title is not None})

    def candidates(self, tastes, pool, count):
        """`count` films of a pool for this user: half at random, half (where there are enough) of a liked genre."""
        genres = set(tastes.get("genres", []))
        near = [film for film in pool if features.attribute(self.films.store[film[0]], "genre") in genres]
        chosen = self.random.sample(near, min(count // 2, len(near)))
        rest = [film for film in pool if film not in set(chosen)]
        return chosen + self.random.sample(rest, count - len(chosen))

    def preference(self, tastes, film):
        """The film's real rating plus what the tastes that it meets are worth to this made-up user."""
        key, rating = film[0], film[1]
        record, worth = self.films.store[key], 0.0
        for taste, name in features.DECLARED:
            wanted, value = tastes.get(taste, []), features.attribute(record, name)
            if name == "genre":
                worth += WORTH[name] * max((self.affinity[one, value] for one in wanted), default=0.0)
            elif value in wanted:
                worth += WORTH[name]
        liked = features.liked_records(self.films.store, tastes, key)
        return rating + worth + WORTH["liked"] * likeness(record, liked)


def likeness(record, liked):
    """How like the liked films a film is, 0 to 1: the mean over attributes of the share of them that agree."""
    if not liked:
        return 0.0
    agreeing = 0
    for name in features.LIKED:
        value = features.attribute(record, name)
        agreeing += sum(value is not None and features.attribute(other, name) == value for other in liked)
    return agreeing / (len(liked) * len(features.LIKED))


def genre_affinity(films):
    """How near two genres are, 0 to 1, from the training films: cosine of their directors' filmographies."""
    directors = defaultdict(lambda: defaultdict(int))
    for key, _, _, _ in films.train:
        record = films.store[key]
        if "genre" in record and "director" in record:
            directors[record["genre"]][record["director"]] += 1
    affinity = defaultdict(float)
    for one, ones in directors.items():
        for two, twos in directors.items():
            dot = sum(count * twos.get(name, 0) for name, count in ones.items())
            norms = sum(c * c for c in ones.values()) * sum(c * c for c in twos.values())
            affinity[one, two] = dot / norms**0.5
    return affinity
