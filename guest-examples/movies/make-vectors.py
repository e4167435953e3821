"""Writes `vectors.json`: worked examples of FEATURES.md for every implementation to reproduce exactly.

    python make-vectors.py > vectors.json

A case has the tastes, the candidate's key, the records of the store that it needs, and the row as a
sorted list of [index, amount]; amounts not listed are 0. Standard library only.
"""

import json
import os

import features

HERE = os.path.dirname(os.path.abspath(__file__))
STORE = os.path.join(HERE, "movies.jsonl")

# (why the case is there, tastes, candidate)
CASES = (
    ("no tastes", {}, "Jurassic Park"),
    (
        "every taste at once; a liked film that the store lacks; a repeated one",
        {
            "genres": ["Action", "Comedy"],
            "directors": ["Steven Spielberg"],
            "mpaa": ["R"],
            "decades": [1990, 1980],
            "liked": ["Jaws", "Jaws", "No Such Film", "The Lost World: Jurassic Park"],
        },
        "Jurassic Park",
    ),
    ("the candidate itself is liked, and nothing else", {"liked": ["Jurassic Park"]}, "Jurassic Park"),
    ("a film with almost nothing known, for a user with a genre", {"genres": ["Drama"]}, "The Calling (2009)"),
    ("no genre, no year, no director to match", {"directors": ["Nobody"], "decades": [2000]}, "Drei"),
    ("a key and an attribute outside ASCII", {"genres": ["Comédie"], "liked": ["Caché"]}, "Déjà Vu"),
    (
        "more liked films of one genre than count",
        {"liked": ["Jaws", "Halloween", "Psycho", "The Omen", "Carrie", "The Shining", "The Fog"]},
        "Alien",
    ),
    ("a long film of a large budget, older than 1990", {"decades": [1950]}, "Ben-Hur (1959)"),
)


def read_store(path=STORE):
    """The committed store as {key: record}."""
    with open(path, encoding="utf-8") as file:
        return {entry["key"]: entry["value"] for entry in map(json.loads, file)}


def case(store, note, tastes, key):
    """One worked example, with as much of the store as it needs."""
    needed = [key, *tastes.get("liked", [])]
    return {
        "note": note,
        "tastes": tastes,
        "candidate": key,
        "store": {title: store[title] for title in needed if title in store},
        "row": [[index, amount] for index, amount in features.row(store, tastes, key).items()],
    }


def main():
    store = read_store()
    hashes = {text: features.fnv1a(text.encode()) for text in ("", "a", "genre=Drama", "genre=Comédie")}
    lines = ",\n".join(json.dumps(case(store, *given), ensure_ascii=False) for given in CASES)
    print(f'{{"width": {features.WIDTH},\n"fnv1a": {json.dumps(hashes, ensure_ascii=False)},\n"cases": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
