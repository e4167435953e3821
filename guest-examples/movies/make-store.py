"""Turns the movies table of the npm package `vega-datasets` into `movies.jsonl`, the demo's key-value store.

    python make-store.py path/to/movies.json > movies.jsonl

One line a film: {"key": title, "value": {...}}. Only facts known before anyone rated the film go in: the
ratings, votes and takings of the table stay out, so that no plugin can look them up. What is repaired is
listed in README.md under "Data". Standard library only.
"""

import json
import re
import sys

# The attributes that the store keeps: (name in the store, column of the table).
COLUMNS = (
    ("genre", "Major Genre"),
    ("creative", "Creative Type"),
    ("source", "Source"),
    ("mpaa", "MPAA Rating"),
    ("distributor", "Distributor"),
    ("director", "Director"),
    ("minutes", "Running Time min"),
    ("budget", "Production Budget"),
)
# The table dates from 2010 and was made from two-digit years: later years belong to the century before.
YEAR_LAST = 2011
# What the table says where it knows no date.
DATE_UNKNOWN = "Dec 31 1969"


def clean_title(raw):
    """A title as text: numbers become text, doubled spaces go, Latin-1 once read as Mac Roman is read again."""
    text = re.sub(r"\s+", " ", str(raw)).strip()
    if text.isascii():
        return text
    try:
        return text.encode("mac_roman").decode("cp1252")
    except UnicodeError:
        return text


def release_year(raw):
    """The year of release, or None where the table has none."""
    if raw == DATE_UNKNOWN:
        return None
    year = int(raw[-4:])
    return year - 100 if year > YEAR_LAST else year


def films(table):
    """(key, record, row of the table) of every film, in the table's order; keys are unique.

    Of several films with one title the earliest keeps it; the others are called "Title (year)".
    """
    rows = [row for row in table if row["Title"] is not None]
    records = [record(row) for row in rows]
    titles = {}
    for at in sorted(range(len(rows)), key=lambda at: (records[at].get("year") or 0, at)):
        title = key = clean_title(rows[at]["Title"])
        number = 1
        while key in titles:
            number += 1
            year = records[at].get("year", "undated")
            key = f"{title} ({year})" if number == 2 else f"{title} ({year}, {number})"
        titles[key] = at
    keys = {at: key for key, at in titles.items()}
    return [(keys[at], records[at], rows[at]) for at in range(len(rows))]


def record(row):
    """What the store holds for one row of the table; unknown attributes are absent."""
    year = release_year(row["Release Date"])
    value = {} if year is None else {"year": year}
    for name, column in COLUMNS:
        if row[column] is not None:
            value[name] = row[column]
    return value


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        table = json.load(file)
    for key, value, _ in films(table):
        print(json.dumps({"key": key, "value": value}, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main()
