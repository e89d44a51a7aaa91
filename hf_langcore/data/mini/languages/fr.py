"""French: agreement, adjectives before and after the noun, elision, the partitive, the compound past."""

from __future__ import annotations

from functools import cache

from hf_langcore.data.mini.grammar import COMMA, Grammar, Slot, place_slot, time_slots
from hf_langcore.data.mini.meaning import Clause
from hf_langcore.data.mini.phrase import Phrase, attach, word
from hf_langcore.data.mini.tables import phrase_of, phrases, table

# concept singular plural gender
NOUNS = table("""
    woman femme femmes f
    man homme hommes m
    girl fille filles f
    boy garçon garçons m
    teacher professeur professeurs m
    doctor médecin médecins m
    student élève élèves m
    farmer fermière fermières f
    grandmother grand-mère grands-mères f
    neighbour voisine voisines f
    artist artiste artistes m
    merchant marchand marchands m
    cat chat chats m
    dog chien chiens m
    bird oiseau oiseaux m
    horse cheval chevaux m
    book livre livres m
    letter lettre lettres f
    newspaper journal journaux m
    apple pomme pommes f
    flower fleur fleurs f
    car voiture voitures f
    house maison maisons f
    table table tables f
    shirt chemise chemises f
    key clé clés f
    cup tasse tasses f
    picture tableau tableaux m
    bicycle vélo vélos m
    bag sac sacs m
    fish poisson poissons m
    egg œuf œufs m
    bread pain - m
    soup soupe - f
    rice riz - m
    water eau - f
    milk lait - m
    tea thé - m
""")

# concept masculine feminine masculine-plural feminine-plural place
ADJECTIVES = table("""
    young jeune jeune jeunes jeunes before
    strong fort forte forts fortes after
    kind gentil gentille gentils gentilles before
    tired fatigué fatiguée fatigués fatiguées after
    happy joyeux joyeuse joyeux joyeuses after
    small petit petite petits petites before
    black noir noire noirs noires after
    white blanc blanche blancs blanches after
    big grand grande grands grandes before
    hungry affamé affamée affamés affamées after
    new nouveau nouvelle nouveaux nouvelles before
    old vieux vieille vieux vieilles before
    interesting intéressant intéressante intéressants intéressantes after
    red rouge rouge rouges rouges after
    fresh frais fraîche frais fraîches after
    beautiful beau belle beaux belles before
    delicious délicieux délicieuse délicieux délicieuses after
    hot chaud chaude chauds chaudes after
    cold froid froide froids froides after
    clean propre propre propres propres after
""")

# verb participle present present-plural future future-plural
VERBS = table("""
    read lu lit lisent lira liront
    write écrit écrit écrivent écrira écriront
    buy acheté achète achètent achètera achèteront
    sell vendu vend vendent vendra vendront
    see vu voit voient verra verront
    eat mangé mange mangent mangera mangeront
    drink bu boit boivent boira boiront
    cook cuisiné cuisine cuisinent cuisinera cuisineront
    find trouvé trouve trouvent trouvera trouveront
    hide caché cache cachent cachera cacheront
    draw dessiné dessine dessinent dessinera dessineront
    wash lavé lave lavent lavera laveront
    repair réparé répare réparent réparera répareront
    seek cherché cherche cherchent cherchera chercheront
    open ouvert ouvre ouvrent ouvrira ouvriront
    feed nourri nourrit nourrissent nourrira nourriront
""")

PLACES = phrases("""
    market au/ADP/case marché/NOUN
    school à/ADP/case l'/DET/det école/NOUN
    garden dans/ADP/case le/DET/det jardin/NOUN
    kitchen dans/ADP/case la/DET/det cuisine/NOUN
    park près/ADV/case du/ADP/fixed@1 parc/NOUN
    village au/ADP/case village/NOUN
    city en/ADP/case ville/NOUN
    shop dans/ADP/case le/DET/det magasin/NOUN
    library à/ADP/case la/DET/det bibliothèque/NOUN
    river près/ADV/case de/ADP/fixed@1 la/DET/det rivière/NOUN
""")

TIMES = phrases("""
    yesterday hier/ADV
    last_week la/DET/det semaine/NOUN dernière/ADJ/amod
    this_morning ce/DET/det matin/NOUN
    every_day tous/ADJ/amod les/DET/det jours/NOUN
    every_morning chaque/DET/det matin/NOUN
    tomorrow demain/ADV
    next_week la/DET/det semaine/NOUN prochaine/ADJ/amod
    this_evening ce/DET/det soir/NOUN
""")

NUMERALS = {"two": "deux", "three": "trois", "five": "cinq"}
_ELIDED = word("l'", "DET", joins_right=True)


def elides(form: str) -> bool:
    """Whether an article before this word loses its vowel; homme is the only word here with a silent h."""
    return form[0] in "aeiouéèêœ" or form.startswith("homme")


def _noun_phrase(noun: str, before: Slot, adjective: tuple[str, str], after: Slot) -> Phrase:
    form, place = adjective
    amod: Slot = [("amod", word(form, "ADJ"))] if form else []
    if place == "before":
        return attach(word(noun, "NOUN"), [*before, *amod], after)
    return attach(word(noun, "NOUN"), before, [*amod, *after])


def _agreeing(adjective: str, gender: str, *, plural: bool) -> tuple[str, str]:
    forms = ADJECTIVES[adjective] if adjective else ("",) * 5
    return forms[2 * plural + (gender == "f")], forms[4]


def _first(adjective: tuple[str, str], noun: str) -> str:
    form, place = adjective
    return form if form and place == "before" else noun


def _the(gender: str, next_form: str) -> Slot:
    article = _ELIDED if elides(next_form) else word("la" if gender == "f" else "le", "DET")
    return [("det", article)]


@cache
def subject(agent: str, plural: bool, adjective: str, home: str) -> Phrase:  # noqa: FBT001
    """The definite noun phrase of an agent, with an adjective or a relative clause."""
    noun, gender = NOUNS[agent][plural], NOUNS[agent][2]
    agreeing = _agreeing(adjective, gender, plural=plural)
    article: Slot = [("det", word("les", "DET"))] if plural else _the(gender, _first(agreeing, noun))
    after: Slot = [("acl:relcl", _resident(home, plural=plural))] if home else []
    return _noun_phrase(noun, article, agreeing, after)


def _resident(home: str, *, plural: bool) -> Phrase:
    lives = word("vivent" if plural else "vit", "VERB")
    return attach(lives, [("nsubj", word("qui", "PRON"))], [("obl", PLACES[home])])


@cache
def thing(patient: str, quantity: str, adjective: str) -> Phrase:
    """The noun phrase of a patient."""
    singular, plural, gender = NOUNS[patient]
    if quantity in NUMERALS:
        before: Slot = [("nummod", word(NUMERALS[quantity], "NUM"))]
        return _noun_phrase(plural, before, _agreeing(adjective, gender, plural=True), [])
    agreeing = _agreeing(adjective, gender, plural=False)
    return _noun_phrase(singular, _determiner(quantity, gender, _first(agreeing, singular)), agreeing, [])


def _determiner(quantity: str, gender: str, next_form: str) -> Slot:
    if quantity == "some":
        return _partitive(gender, next_form)
    if quantity == "a":
        return [("det", word("une" if gender == "f" else "un", "DET"))]
    masculine = "cet" if elides(next_form) else "ce"
    return [("det", word("cette" if gender == "f" else masculine, "DET"))]


def _partitive(gender: str, next_form: str) -> Slot:
    if gender == "m" and not elides(next_form):
        return [("det", word("du", "DET"))]
    return [("det", word("de", "DET")), *_the(gender, next_form)]


def _verb(clause: Clause) -> tuple[Slot, Phrase]:
    participle, present, presents, future, futures = VERBS[clause.verb]
    if clause.tense == "past":
        return [("aux", word("ont" if clause.plural else "a", "AUX"))], word(participle, "VERB")
    singular, plural = (present, presents) if clause.tense == "present" else (future, futures)
    return [], word(plural if clause.plural else singular, "VERB")


def clause_of(clause: Clause, role: str) -> Phrase:
    """The clause: time, subject, verb, object, place, or with the time last."""
    front, late = time_slots(clause, role, TIMES)
    comma: Slot = [("punct", COMMA)] if front else []
    auxiliary, verb = _verb(clause)
    agent = subject(clause.agent, clause.plural, clause.agent_adjective, clause.home)
    patient = thing(clause.patient, clause.quantity, clause.patient_adjective)
    after = [("obj", patient), *place_slot(clause, PLACES), *late]
    return attach(verb, [*front, *comma, ("nsubj", agent), *auxiliary], after)


GRAMMAR = Grammar(
    code="fr",
    clause=clause_of,
    connectives={
        "and": word("et", "CCONJ"),
        "but": word("mais", "CCONJ"),
        "because": phrase_of("parce/SCONJ que/SCONJ/fixed"),
    },
    with_comma=frozenset({"but"}),
)
