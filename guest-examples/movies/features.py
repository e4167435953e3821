"""Turns a user's tastes and one film into 1,024 numbers, as FEATURES.md defines; standard library only.

The Rust plugin `movie-features` implements the same definition. `vectors.json` holds worked examples
that both must reproduce exactly. All values are multiples of 1/32, so no sum ever rounds.
"""

WIDTH = 1024

# The film's plain attributes, in the order in which FEATURES.md lists them.
ATTRIBUTES = ("genre", "creative", "source", "mpaa", "distributor", "director")
# The second halves of the crosses `genre+X`.
GENRE_CROSSES = ("creative", "source", "decade", "mpaa")
# What a user can declare: (key in the body's `tastes`, attribute of the film).
DECLARED = (("genres", "genre"), ("directors", "director"), ("mpaa", "mpaa"), ("decades", "decade"))
# What a liked film lends to the taste.
LIKED = ("genre", "director", "creative", "source", "distributor", "decade")
# A count of liked films is taken as at most this, and divided by it.
LIKED_COUNT_MAX = 4
MISSING = "?"


def fnv1a(data):
    """32-bit FNV-1a of some bytes."""
    digest = 0x811C9DC5
    for byte in data:
        digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest


def bucket(name, value):
    """The index that a named value is added to."""
    return fnv1a(f"{name}={value}".encode()) % WIDTH


def clamp(number, low, high):
    return max(low, min(high, number))


def attribute(film, name):
    """An attribute as text, or None when the film's record lacks it."""
    if name == "decade":
        year = film.get("year")
        return None if year is None else str(year - year % 10)
    return film.get(name)


def distinct(items):
    """The items as text, without repetitions, in order of first appearance."""
    return list(dict.fromkeys(str(item) for item in items or []))


def film_features(film):
    """(name, value, amount) for what is known about a film, whoever asks."""
    for name in ATTRIBUTES:
        yield name, attribute(film, name) or MISSING, 1.0
    yield "decade", attribute(film, "decade") or MISSING, 1.0

    minutes, budget, year = film.get("minutes"), film.get("budget"), film.get("year")
    yield "minutes", MISSING if minutes is None else clamp(minutes - minutes % 10, 60, 200), 1.0
    size = None if budget is None else (budget // 1_000_000).bit_length()
    yield "budget", MISSING if size is None else size, 1.0

    genre = attribute(film, "genre") or MISSING
    for name in GENRE_CROSSES:
        yield f"genre+{name}", f"{genre}|{attribute(film, name) or MISSING}", 1.0

    if year is not None:
        yield "year", "#", (clamp(year, 1900, 2030) - 1990) / 32
    if minutes is not None:
        yield "minutes", "#", (clamp(minutes, 40, 240) - 110) / 32
    if size is not None:
        yield "budget", "#", min(size, 8) / 8


def taste_features(tastes, liked, film):
    """(name, value, amount) for how a film meets the tastes.

    `liked` is the list of the records of the liked films that the store has, the film itself left out.
    """
    declared = False
    for key, name in DECLARED:
        wanted = distinct(tastes.get(key))
        if wanted:
            declared = True
            yield ("match" if attribute(film, name) in wanted else "miss"), name, 1.0

    genre = attribute(film, "genre") or MISSING
    for wanted in distinct(tastes.get("genres")):
        yield "taste-genre", f"{wanted}|{genre}", 1.0

    for name in LIKED:
        value = attribute(film, name)
        count = 0 if value is None else sum(attribute(other, name) == value for other in liked)
        if count:
            yield "liked", name, min(count, LIKED_COUNT_MAX) / LIKED_COUNT_MAX
    genres = [attribute(other, "genre") or MISSING for other in liked]
    for other in distinct(genres):
        yield "liked-genre", f"{other}|{genre}", min(genres.count(other), LIKED_COUNT_MAX) / LIKED_COUNT_MAX

    yield "tastes", "some" if declared or liked else "none", 1.0


def liked_records(store, tastes, key):
    """The records of the liked films, each once, without unknown ones and without the film `key` itself."""
    titles = distinct(tastes.get("liked"))
    return [store[title] for title in titles if title in store and title != key]


def row(store, tastes, key):
    """The features of the film `key` for a user: {index: amount}, zero amounts left out."""
    film, amounts = store[key], {}
    liked = liked_records(store, tastes, key)
    for part in (film_features(film), taste_features(tastes, liked, film)):
        for name, value, amount in part:
            index = bucket(name, value)
            amounts[index] = amounts.get(index, 0.0) + amount
    return {index: amount for index, amount in sorted(amounts.items()) if amount != 0.0}
