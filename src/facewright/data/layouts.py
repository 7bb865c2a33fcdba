"""The face data sets that people have, as they come: one table, a row and a short reader each.

A row says how its layout is recognized and how it is read. They are tried in order; the first that recognizes a tree
reads it, and `--layout NAME` overrules. What no row knows is a label file, numbered images or class folders: the last
rows of the table.
"""

from __future__ import annotations

from facewright.data import expression_layouts as expressions
from facewright.data import people_layouts as people
from facewright.data.layout_reading import Layout

KNOWN: tuple[Layout, ...] = (
    Layout("ferplus", expressions.is_ferplus, expressions.read_ferplus),
    Layout("fer2013", expressions.is_fer, expressions.read_fer),
    Layout("raf-db", expressions.is_raf, expressions.read_raf),
    Layout("affectnet", expressions.is_affectnet, expressions.read_affectnet),
    Layout("celeba", people.is_celeba, people.read_celeba),
    Layout("fairface", people.is_fairface, people.read_fairface),
    Layout("utkface", people.is_utkface, people.read_utkface),
    Layout("agedb", people.is_agedb, people.read_agedb),
    Layout("imdb-wiki", people.is_imdb, people.read_imdb),
    Layout("vggface2", people.is_vggface2, people.read_vggface2),
    Layout("casia-webface", people.is_casia, people.read_people),
    Layout("lfw", people.is_lfw, people.read_people),
)
