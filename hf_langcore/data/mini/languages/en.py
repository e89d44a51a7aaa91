"""English: verb agreement, a or an, the prepositional verb "look for"."""

from __future__ import annotations

from functools import cache

from hf_langcore.data.mini.concepts import PEOPLE
from hf_langcore.data.mini.grammar import Grammar, Slot, adjective_slot, place_slot, time_slots
from hf_langcore.data.mini.meaning import Clause
from hf_langcore.data.mini.phrase import Phrase, attach, word
from hf_langcore.data.mini.tables import phrases, table

# concept singular plural
NOUNS = table("""
    woman woman women
    man man men
    girl girl girls
    boy boy boys
    teacher teacher teachers
    doctor doctor doctors
    student student students
    farmer farmer farmers
    grandmother grandmother grandmothers
    neighbour neighbour neighbours
    artist artist artists
    merchant merchant merchants
    cat cat cats
    dog dog dogs
    bird bird birds
    horse horse horses
    book book books
    letter letter letters
    newspaper newspaper newspapers
    apple apple apples
    flower flower flowers
    car car cars
    house house houses
    table table tables
    shirt shirt shirts
    key key keys
    cup cup cups
    picture picture pictures
    bicycle bicycle bicycles
    bag bag bags
    fish fish fish
    egg egg eggs
    bread bread -
    soup soup -
    rice rice -
    water water -
    milk milk -
    tea tea -
""")

# verb past present-singular base preposition
VERBS = table("""
    read read reads read -
    write wrote writes write -
    buy bought buys buy -
    sell sold sells sell -
    see saw sees see -
    eat ate eats eat -
    drink drank drinks drink -
    cook cooked cooks cook -
    find found finds find -
    hide hid hides hide -
    draw drew draws draw -
    wash washed washes wash -
    repair repaired repairs repair -
    seek looked looks look for
    open opened opens open -
    feed fed feeds feed -
""")

PLACES = phrases("""
    market at/ADP/case the/DET/det market/NOUN
    school at/ADP/case school/NOUN
    garden in/ADP/case the/DET/det garden/NOUN
    kitchen in/ADP/case the/DET/det kitchen/NOUN
    park near/ADP/case the/DET/det park/NOUN
    village in/ADP/case the/DET/det village/NOUN
    city in/ADP/case the/DET/det city/NOUN
    shop in/ADP/case the/DET/det shop/NOUN
    library in/ADP/case the/DET/det library/NOUN
    river by/ADP/case the/DET/det river/NOUN
""")

TIMES = phrases("""
    yesterday yesterday/ADV
    last_week last/ADJ/amod week/NOUN
    this_morning this/DET/det morning/NOUN
    every_day every/DET/det day/NOUN
    every_morning every/DET/det morning/NOUN
    tomorrow tomorrow/ADV
    next_week next/ADJ/amod week/NOUN
    this_evening this/DET/det evening/NOUN
""")

_THE = word("the", "DET")
_WILL = word("will", "AUX")


@cache
def subject(agent: str, plural: bool, adjective: str, home: str) -> Phrase:  # noqa: FBT001
    """The definite noun phrase of an agent, with an adjective or a relative clause."""
    noun = word(NOUNS[agent][plural], "NOUN")
    after: Slot = [("acl:relcl", _resident(agent, home, plural=plural))] if home else []
    return attach(noun, [("det", _THE), *adjective_slot(adjective)], after)


def _resident(agent: str, home: str, *, plural: bool) -> Phrase:
    pronoun = word("who" if agent in PEOPLE else "that", "PRON")
    return attach(word("live" if plural else "lives", "VERB"), [("nsubj", pronoun)], [("obl", PLACES[home])])


@cache
def thing(patient: str, quantity: str, adjective: str) -> Phrase:
    """The noun phrase of a patient."""
    singular, plural = NOUNS[patient]
    noun = word(singular if quantity in {"a", "this", "some"} else plural, "NOUN")
    return attach(noun, [*_determiner(quantity, adjective or singular), *adjective_slot(adjective)])


def _determiner(quantity: str, next_form: str) -> Slot:
    if quantity == "some":
        return []
    if quantity == "a":
        return [("det", word("an" if next_form[0] in "aeiou" else "a", "DET"))]
    return [("det", word("this", "DET"))] if quantity == "this" else [("nummod", word(quantity, "NUM"))]


def _verb(clause: Clause) -> Phrase:
    past, singular, base, _ = VERBS[clause.verb]
    if clause.tense == "past":
        return word(past, "VERB")
    return word(base if clause.plural or clause.tense == "future" else singular, "VERB")


def _object(clause: Clause) -> tuple[str, Phrase]:
    said = thing(clause.patient, clause.quantity, clause.patient_adjective)
    preposition = VERBS[clause.verb][3]
    return ("obl", attach(said, [("case", word(preposition, "ADP"))])) if preposition else ("obj", said)


def clause_of(clause: Clause, role: str) -> Phrase:
    """The clause: time, subject, verb, object, place, or with the time last."""
    front, late = time_slots(clause, role, TIMES)
    agent = subject(clause.agent, clause.plural, clause.agent_adjective, clause.home)
    auxiliary: Slot = [("aux", _WILL)] if clause.tense == "future" else []
    before = [*front, ("nsubj", agent), *auxiliary]
    return attach(_verb(clause), before, [_object(clause), *place_slot(clause, PLACES), *late])


GRAMMAR = Grammar(
    code="en",
    clause=clause_of,
    connectives={"and": word("and", "CCONJ"), "but": word("but", "CCONJ"), "because": word("because", "SCONJ")},
    with_comma=frozenset({"and", "but"}),
)
