"""German: three genders, case endings, verb second, verb last in subordinate clauses, the verbal bracket."""

from __future__ import annotations

from functools import cache

from hf_langcore.data.mini.concepts import ANIMALS
from hf_langcore.data.mini.grammar import COMMA, Grammar, Slot, adjective_slot, place_slot, time_slots
from hf_langcore.data.mini.meaning import Clause
from hf_langcore.data.mini.phrase import Phrase, attach, word
from hf_langcore.data.mini.tables import phrases, table

# concept singular plural gender; none of these nouns has an accusative of its own where it is used as object
NOUNS = table("""
    woman Frau Frauen f
    man Mann Männer m
    girl Mädchen Mädchen n
    boy Junge Jungen m
    teacher Lehrerin Lehrerinnen f
    doctor Arzt Ärzte m
    student Schüler Schüler m
    farmer Bauer Bauern m
    grandmother Großmutter Großmütter f
    neighbour Nachbarin Nachbarinnen f
    artist Künstler Künstler m
    merchant Händler Händler m
    cat Katze Katzen f
    dog Hund Hunde m
    bird Vogel Vögel m
    horse Pferd Pferde n
    book Buch Bücher n
    letter Brief Briefe m
    newspaper Zeitung Zeitungen f
    apple Apfel Äpfel m
    flower Blume Blumen f
    car Auto Autos n
    house Haus Häuser n
    table Tisch Tische m
    shirt Hemd Hemden n
    key Schlüssel Schlüssel m
    cup Tasse Tassen f
    picture Bild Bilder n
    bicycle Fahrrad Fahrräder n
    bag Tasche Taschen f
    fish Fisch Fische m
    egg Ei Eier n
    bread Brot - n
    soup Suppe - f
    rice Reis - m
    water Wasser - n
    milk Milch - f
    tea Tee - m
""")

# concept stem; -e, -en and -es are all the endings that occur here
ADJECTIVES = table("""
    young jung
    strong stark
    kind nett
    tired müd
    happy fröhlich
    small klein
    black schwarz
    white weiß
    big groß
    hungry hungrig
    new neu
    old alt
    interesting interessant
    red rot
    fresh frisch
    beautiful schön
    delicious lecker
    hot heiß
    cold kalt
    clean sauber
""")

# verb past past-plural present present-plural infinitive
VERBS = table("""
    read las lasen liest lesen lesen
    write schrieb schrieben schreibt schreiben schreiben
    buy kaufte kauften kauft kaufen kaufen
    sell verkaufte verkauften verkauft verkaufen verkaufen
    see sah sahen sieht sehen sehen
    eat aß aßen isst essen essen
    devour fraß fraßen frisst fressen fressen
    drink trank tranken trinkt trinken trinken
    cook kochte kochten kocht kochen kochen
    find fand fanden findet finden finden
    hide versteckte versteckten versteckt verstecken verstecken
    draw zeichnete zeichneten zeichnet zeichnen zeichnen
    wash wusch wuschen wäscht waschen waschen
    repair reparierte reparierten repariert reparieren reparieren
    seek suchte suchten sucht suchen suchen
    open öffnete öffneten öffnet öffnen öffnen
    feed fütterte fütterten füttert füttern füttern
""")

PLACES = phrases("""
    market auf/ADP/case dem/DET/det Markt/NOUN
    school in/ADP/case der/DET/det Schule/NOUN
    garden im/ADP/case Garten/NOUN
    kitchen in/ADP/case der/DET/det Küche/NOUN
    park in/ADP/case der/DET/det Nähe/NOUN des/DET/det@5 Parks/NOUN/nmod
    village im/ADP/case Dorf/NOUN
    city in/ADP/case der/DET/det Stadt/NOUN
    shop im/ADP/case Laden/NOUN
    library in/ADP/case der/DET/det Bibliothek/NOUN
    river am/ADP/case Fluss/NOUN
""")

TIMES = phrases("""
    yesterday gestern/ADV
    last_week letzte/ADJ/amod Woche/NOUN
    this_morning heute/ADV Morgen/NOUN/obl
    every_day jeden/DET/det Tag/NOUN
    every_morning jeden/DET/det Morgen/NOUN
    tomorrow morgen/ADV
    next_week nächste/ADJ/amod Woche/NOUN
    this_evening heute/ADV Abend/NOUN/obl
""")

ARTICLES = {"m": "der", "f": "die", "n": "das"}
# accusative by gender
INDEFINITE = {"m": "einen", "f": "eine", "n": "ein"}
DEMONSTRATIVE = {"m": "diesen", "f": "diese", "n": "dieses"}
NUMERALS = {"two": "zwei", "three": "drei", "five": "fünf"}
# After ein and without any article a neuter adjective has to show the gender; after dieses it need not.
STRONG_ENDINGS = {"m": "en", "f": "e", "n": "es"}
WEAK_ENDINGS = {"m": "en", "f": "e", "n": "e"}


def _declined(adjective: str, ending: str) -> Slot:
    return adjective_slot(ADJECTIVES[adjective][0] + ending if adjective else "")


@cache
def subject(agent: str, plural: bool, adjective: str, home: str) -> Phrase:  # noqa: FBT001
    """The definite noun phrase of an agent in the nominative, with an adjective or a relative clause."""
    article = "die" if plural else ARTICLES[NOUNS[agent][2]]
    after: Slot = [("acl:relcl", _resident(article, home, plural=plural))] if home else []
    before = [("det", word(article, "DET")), *_declined(adjective, "en" if plural else "e")]
    return attach(word(NOUNS[agent][plural], "NOUN"), before, after)


def _resident(pronoun: str, home: str, *, plural: bool) -> Phrase:
    lives = word("leben" if plural else "lebt", "VERB")
    before = [("punct", COMMA), ("nsubj", word(pronoun, "PRON")), ("obl", PLACES[home])]
    return attach(lives, before, [("punct", COMMA)])


@cache
def thing(patient: str, quantity: str, adjective: str) -> Phrase:
    """The noun phrase of a patient in the accusative."""
    singular, plural, gender = NOUNS[patient]
    if quantity in NUMERALS:
        before = [("nummod", word(NUMERALS[quantity], "NUM")), *_declined(adjective, "e")]
        return attach(word(plural, "NOUN"), before)
    if quantity == "this":
        before = [("det", word(DEMONSTRATIVE[gender], "DET")), *_declined(adjective, WEAK_ENDINGS[gender])]
        return attach(word(singular, "NOUN"), before)
    article: Slot = [("det", word(INDEFINITE[gender], "DET"))] if quantity == "a" else []
    return attach(word(singular, "NOUN"), [*article, *_declined(adjective, STRONG_ENDINGS[gender])])


def _forms(clause: Clause) -> tuple[Phrase, Slot]:
    """The full verb and, in the future, its auxiliary."""
    # Animals do not "essen".
    verb = "devour" if clause.verb == "eat" and clause.agent in ANIMALS else clause.verb
    if clause.tense == "future":
        will = word("werden" if clause.plural else "wird", "AUX")
        return word(VERBS[verb][4], "VERB"), [("aux", will)]
    return word(VERBS[verb][2 * (clause.tense == "present") + clause.plural], "VERB"), []


def _object_and_place(clause: Clause) -> Slot:
    patient = ("obj", thing(clause.patient, clause.quantity, clause.patient_adjective))
    place = place_slot(clause, PLACES)
    # What is known comes first, what is new stands last.
    return [patient, *place] if clause.quantity == "this" else [*place, patient]


def clause_of(clause: Clause, role: str) -> Phrase:
    """The clause, with the finite verb second, or last after weil."""
    front, late = time_slots(clause, role, TIMES)
    agent = ("nsubj", subject(clause.agent, clause.plural, clause.agent_adjective, clause.home))
    rest = _object_and_place(clause)
    verb, auxiliary = _forms(clause)
    if role == "because":
        return attach(verb, [agent, *rest], auxiliary)
    first, middle = (front, [agent, *rest]) if front else ([agent], [*late, *rest])
    if auxiliary:
        return attach(verb, [*first, *auxiliary, *middle])
    return attach(verb, first, middle)


GRAMMAR = Grammar(
    code="de",
    clause=clause_of,
    connectives={"and": word("und", "CCONJ"), "but": word("aber", "CCONJ"), "because": word("weil", "SCONJ")},
    with_comma=frozenset({"but", "because"}),
)
