"""Spanish: gender and number agreement, al and del, the personal a before animals."""

from __future__ import annotations

from functools import cache

from hf_langcore.data.mini.concepts import ANIMALS
from hf_langcore.data.mini.grammar import Grammar, Slot, adjective_slot, place_slot, time_slots
from hf_langcore.data.mini.meaning import Clause
from hf_langcore.data.mini.phrase import Phrase, attach, word
from hf_langcore.data.mini.tables import phrases, table

# concept singular plural gender
NOUNS = table("""
    woman mujer mujeres f
    man hombre hombres m
    girl niña niñas f
    boy niño niños m
    teacher profesora profesoras f
    doctor médico médicos m
    student estudiante estudiantes m
    farmer agricultor agricultores m
    grandmother abuela abuelas f
    neighbour vecina vecinas f
    artist pintora pintoras f
    merchant comerciante comerciantes m
    cat gato gatos m
    dog perro perros m
    bird pájaro pájaros m
    horse caballo caballos m
    book libro libros m
    letter carta cartas f
    newspaper periódico periódicos m
    apple manzana manzanas f
    flower flor flores f
    car coche coches m
    house casa casas f
    table mesa mesas f
    shirt camisa camisas f
    key llave llaves f
    cup taza tazas f
    picture cuadro cuadros m
    bicycle bicicleta bicicletas f
    bag bolsa bolsas f
    fish pescado pescados m
    egg huevo huevos m
    bread pan - m
    soup sopa - f
    rice arroz - m
    water agua - f
    milk leche - f
    tea té - m
""")

# concept masculine feminine masculine-plural feminine-plural
ADJECTIVES = table("""
    young joven joven jóvenes jóvenes
    strong fuerte fuerte fuertes fuertes
    kind amable amable amables amables
    tired cansado cansada cansados cansadas
    happy feliz feliz felices felices
    small pequeño pequeña pequeños pequeñas
    black negro negra negros negras
    white blanco blanca blancos blancas
    big grande grande grandes grandes
    hungry hambriento hambrienta hambrientos hambrientas
    new nuevo nueva nuevos nuevas
    old viejo vieja viejos viejas
    interesting interesante interesante interesantes interesantes
    red rojo roja rojos rojas
    fresh fresco fresca frescos frescas
    beautiful bonito bonita bonitos bonitas
    delicious delicioso deliciosa deliciosos deliciosas
    hot caliente caliente calientes calientes
    cold frío fría fríos frías
    clean limpio limpia limpios limpias
""")

# verb past past-plural present present-plural future future-plural
VERBS = table("""
    read leyó leyeron lee leen leerá leerán
    write escribió escribieron escribe escriben escribirá escribirán
    buy compró compraron compra compran comprará comprarán
    sell vendió vendieron vende venden venderá venderán
    see vio vieron ve ven verá verán
    eat comió comieron come comen comerá comerán
    drink bebió bebieron bebe beben beberá beberán
    cook cocinó cocinaron cocina cocinan cocinará cocinarán
    find encontró encontraron encuentra encuentran encontrará encontrarán
    hide escondió escondieron esconde esconden esconderá esconderán
    draw dibujó dibujaron dibuja dibujan dibujará dibujarán
    wash lavó lavaron lava lavan lavará lavarán
    repair reparó repararon repara reparan reparará repararán
    seek buscó buscaron busca buscan buscará buscarán
    open abrió abrieron abre abren abrirá abrirán
    feed alimentó alimentaron alimenta alimentan alimentará alimentarán
""")
TENSE_COLUMNS = {"past": 0, "present": 2, "future": 4}

PLACES = phrases("""
    market en/ADP/case el/DET/det mercado/NOUN
    school en/ADP/case la/DET/det escuela/NOUN
    garden en/ADP/case el/DET/det jardín/NOUN
    kitchen en/ADP/case la/DET/det cocina/NOUN
    park junto/ADV/case al/ADP/fixed@1 parque/NOUN
    village en/ADP/case el/DET/det pueblo/NOUN
    city en/ADP/case la/DET/det ciudad/NOUN
    shop en/ADP/case la/DET/det tienda/NOUN
    library en/ADP/case la/DET/det biblioteca/NOUN
    river cerca/ADV/case del/ADP/fixed@1 río/NOUN
""")

TIMES = phrases("""
    yesterday ayer/ADV
    last_week la/DET/det semana/NOUN pasada/ADJ/amod
    this_morning esta/DET/det mañana/NOUN
    every_day todos/DET/det los/DET/det días/NOUN
    every_morning cada/DET/det mañana/NOUN
    tomorrow mañana/ADV
    next_week la/DET/det próxima/ADJ/amod semana/NOUN
    this_evening esta/DET/det noche/NOUN
""")

DETERMINERS = {"a": ("un", "una"), "this": ("este", "esta")}
NUMERALS = {"two": "dos", "three": "tres", "five": "cinco"}
_PERSONAL_A = word("a", "ADP")


def _agreeing(adjective: str, gender: str, *, plural: bool) -> Slot:
    return adjective_slot(ADJECTIVES[adjective][2 * plural + (gender == "f")] if adjective else "")


@cache
def subject(agent: str, plural: bool, adjective: str, home: str) -> Phrase:  # noqa: FBT001
    """The definite noun phrase of an agent, with an adjective or a relative clause."""
    gender = NOUNS[agent][2]
    article = ("las" if plural else "la") if gender == "f" else ("los" if plural else "el")
    after = _agreeing(adjective, gender, plural=plural)
    if home:
        after = [("acl:relcl", _resident(home, plural=plural))]
    return attach(word(NOUNS[agent][plural], "NOUN"), [("det", word(article, "DET"))], after)


def _resident(home: str, *, plural: bool) -> Phrase:
    lives = word("viven" if plural else "vive", "VERB")
    return attach(lives, [("nsubj", word("que", "PRON"))], [("obl", PLACES[home])])


@cache
def thing(patient: str, quantity: str, adjective: str, verb: str) -> Phrase:
    """The noun phrase of a patient, with the personal a where it is called for."""
    singular, plural, gender = NOUNS[patient]
    before: Slot = []
    # Animals take "a" where they are singled out, and always as the object of feeding.
    if patient in ANIMALS and (verb == "feed" or quantity == "this"):
        before.append(("case", _PERSONAL_A))
    if quantity in NUMERALS:
        before.append(("nummod", word(NUMERALS[quantity], "NUM")))
        return attach(word(plural, "NOUN"), before, _agreeing(adjective, gender, plural=True))
    if quantity in DETERMINERS:
        before.append(("det", word(DETERMINERS[quantity][gender == "f"], "DET")))
    return attach(word(singular, "NOUN"), before, _agreeing(adjective, gender, plural=False))


def clause_of(clause: Clause, role: str) -> Phrase:
    """The clause: time, subject, verb, object, place, or with the time last."""
    front, late = time_slots(clause, role, TIMES)
    verb = word(VERBS[clause.verb][TENSE_COLUMNS[clause.tense] + clause.plural], "VERB")
    agent = subject(clause.agent, clause.plural, clause.agent_adjective, clause.home)
    patient = thing(clause.patient, clause.quantity, clause.patient_adjective, clause.verb)
    after = [("obj", patient), *place_slot(clause, PLACES), *late]
    return attach(verb, [*front, ("nsubj", agent)], after)


GRAMMAR = Grammar(
    code="es",
    clause=clause_of,
    connectives={"and": word("y", "CCONJ"), "but": word("pero", "CCONJ"), "because": word("porque", "SCONJ")},
    with_comma=frozenset({"but"}),
)
