"""Russian: cases, gender agreement of adjectives and past tense, numerals that govern the genitive, aspect."""

from __future__ import annotations

from functools import cache

from hf_langcore.data.mini.concepts import ANIMALS
from hf_langcore.data.mini.grammar import COMMA, Grammar, Slot, adjective_slot, place_slot, time_slots
from hf_langcore.data.mini.meaning import Clause
from hf_langcore.data.mini.phrase import Phrase, attach, word
from hf_langcore.data.mini.tables import phrase_of, phrases, table

# concept nominative nominative-plural gender
AGENTS = table("""
    woman женщина женщины f
    man мужчина мужчины m
    girl девочка девочки f
    boy мальчик мальчики m
    teacher учительница учительницы f
    doctor врач врачи m
    student студент студенты m
    farmer фермер фермеры m
    grandmother бабушка бабушки f
    neighbour соседка соседки f
    artist художник художники m
    merchant продавец продавцы m
    cat кошка кошки f
    dog собака собаки f
    bird птица птицы f
    horse лошадь лошади f
""")

# concept accusative after-two-and-three after-five gender
THINGS = table("""
    cat кошку кошек кошек f
    dog собаку собак собак f
    bird птицу птиц птиц f
    horse лошадь лошадей лошадей f
    book книгу книги книг f
    letter письмо письма писем n
    newspaper газету газеты газет f
    apple яблоко яблока яблок n
    flower цветок цветка цветков m
    car машину машины машин f
    house дом дома домов m
    table стол стола столов m
    shirt рубашку рубашки рубашек f
    key ключ ключа ключей m
    cup чашку чашки чашек f
    picture картину картины картин f
    bicycle велосипед велосипеда велосипедов m
    bag сумку сумки сумок f
    fish рыбу рыбы рыб f
    egg яйцо яйца яиц n
    bread хлеб - - m
    soup суп - - m
    rice рис - - m
    water воду - - f
    milk молоко - - n
    tea чай - - m
""")

# concept masculine feminine neuter plural feminine-accusative genitive-plural
ADJECTIVES = table("""
    young молодой молодая молодое молодые молодую молодых
    strong сильный сильная сильное сильные сильную сильных
    kind добрый добрая доброе добрые добрую добрых
    tired усталый усталая усталое усталые усталую усталых
    happy весёлый весёлая весёлое весёлые весёлую весёлых
    small маленький маленькая маленькое маленькие маленькую маленьких
    black чёрный чёрная чёрное чёрные чёрную чёрных
    white белый белая белое белые белую белых
    big большой большая большое большие большую больших
    hungry голодный голодная голодное голодные голодную голодных
    new новый новая новое новые новую новых
    old старый старая старое старые старую старых
    interesting интересный интересная интересное интересные интересную интересных
    red красный красная красное красные красную красных
    fresh свежий свежая свежее свежие свежую свежих
    beautiful красивый красивая красивое красивые красивую красивых
    delicious вкусный вкусная вкусное вкусные вкусную вкусных
    hot горячий горячая горячее горячие горячую горячих
    cold холодный холодная холодное холодные холодную холодных
    clean чистый чистая чистое чистые чистую чистых
""")
_MASCULINE, _FEMININE, _NEUTER, _PLURAL, _FEMININE_ACCUSATIVE, _GENITIVE_PLURAL = range(6)

# verb past-m past-f past-plural present present-plural future future-plural
# Past and future are perfective, the present is imperfective.
VERBS = table("""
    read прочитал прочитала прочитали читает читают прочитает прочитают
    write написал написала написали пишет пишут напишет напишут
    buy купил купила купили покупает покупают купит купят
    sell продал продала продали продаёт продают продаст продадут
    see увидел увидела увидели видит видят увидит увидят
    eat съел съела съели ест едят съест съедят
    drink выпил выпила выпили пьёт пьют выпьет выпьют
    cook приготовил приготовила приготовили готовит готовят приготовит приготовят
    find нашёл нашла нашли находит находят найдёт найдут
    hide спрятал спрятала спрятали прячет прячут спрячет спрячут
    draw нарисовал нарисовала нарисовали рисует рисуют нарисует нарисуют
    wash вымыл вымыла вымыли моет моют вымоет вымоют
    repair отремонтировал отремонтировала отремонтировали ремонтирует ремонтируют отремонтирует отремонтируют
    seek искал искала искали ищет ищут поищет поищут
    open открыл открыла открыли открывает открывают откроет откроют
    feed покормил покормила покормили кормит кормят покормит покормят
""")

PLACES = phrases("""
    market на/ADP/case рынке/NOUN
    school в/ADP/case школе/NOUN
    garden в/ADP/case саду/NOUN
    kitchen на/ADP/case кухне/NOUN
    park около/ADP/case парка/NOUN
    village в/ADP/case деревне/NOUN
    city в/ADP/case городе/NOUN
    shop в/ADP/case магазине/NOUN
    library в/ADP/case библиотеке/NOUN
    river у/ADP/case реки/NOUN
""")

TIMES = phrases("""
    yesterday вчера/ADV
    last_week на/ADP/case прошлой/ADJ/amod неделе/NOUN
    this_morning сегодня/ADV/advmod утром/ADV
    every_day каждый/DET/det день/NOUN
    every_morning каждое/DET/det утро/NOUN
    tomorrow завтра/ADV
    next_week на/ADP/case следующей/ADJ/amod неделе/NOUN
    this_evening сегодня/ADV/advmod вечером/ADV
""")

_THIS = {"m": "этот", "f": "эту", "n": "это"}
_WHO = {"m": "который", "f": "которая"}
_NOMINATIVE = {"m": _MASCULINE, "f": _FEMININE, "n": _NEUTER}
# Inanimate masculines and neuters look alike in nominative and accusative; all animate objects here are feminine.
_ACCUSATIVE = {"m": _MASCULINE, "f": _FEMININE_ACCUSATIVE, "n": _NEUTER}


def _declined(adjective: str, column: int) -> Slot:
    return adjective_slot(ADJECTIVES[adjective][column] if adjective else "")


@cache
def subject(agent: str, plural: bool, adjective: str, home: str) -> Phrase:  # noqa: FBT001
    """The noun phrase of an agent in the nominative, with an adjective or a relative clause."""
    gender = AGENTS[agent][2]
    before = _declined(adjective, _PLURAL if plural else _NOMINATIVE[gender])
    pronoun = "которые" if plural else _WHO[gender]
    after: Slot = [("acl:relcl", _resident(pronoun, home, plural=plural))] if home else []
    return attach(word(AGENTS[agent][plural], "NOUN"), before, after)


def _resident(pronoun: str, home: str, *, plural: bool) -> Phrase:
    lives = word("живут" if plural else "живёт", "VERB")
    before = [("punct", COMMA), ("nsubj", word(pronoun, "PRON"))]
    return attach(lives, before, [("obl", PLACES[home]), ("punct", COMMA)])


@cache
def thing(patient: str, quantity: str, adjective: str) -> Phrase:
    """The noun phrase of a patient in the accusative, or in the case that its numeral governs."""
    accusative, few, many, gender = THINGS[patient]
    if quantity == "five":
        before = [("nummod:gov", word("пять", "NUM")), *_declined(adjective, _GENITIVE_PLURAL)]
        return attach(word(many, "NOUN"), before)
    if quantity in {"two", "three"}:
        return attach(word(few, "NOUN"), _few(patient, quantity, adjective, gender))
    this: Slot = [("det", word(_THIS[gender], "DET"))] if quantity == "this" else []
    return attach(word(accusative, "NOUN"), [*this, *_declined(adjective, _ACCUSATIVE[gender])])


def _few(patient: str, quantity: str, adjective: str, gender: str) -> Slot:
    """Two or three: agreeing genitive with animates, otherwise an accusative that governs the noun."""
    if patient in ANIMALS:
        numeral = word("двух" if quantity == "two" else "трёх", "NUM")
        return [("nummod", numeral), *_declined(adjective, _GENITIVE_PLURAL)]
    two = "две" if gender == "f" else "два"
    numeral = word(two if quantity == "two" else "три", "NUM")
    column = _PLURAL if gender == "f" else _GENITIVE_PLURAL
    return [("nummod:gov", numeral), *_declined(adjective, column)]


def _verb(clause: Clause) -> Phrase:
    forms = VERBS[clause.verb]
    if clause.tense == "past":
        return word(forms[2 if clause.plural else int(AGENTS[clause.agent][2] == "f")], "VERB")
    return word(forms[(3 if clause.tense == "present" else 5) + clause.plural], "VERB")


def clause_of(clause: Clause, role: str) -> Phrase:
    """The clause: time, subject, time, verb, object, place."""
    front, late = time_slots(clause, role, TIMES)
    agent = subject(clause.agent, clause.plural, clause.agent_adjective, clause.home)
    patient = thing(clause.patient, clause.quantity, clause.patient_adjective)
    before = [*front, ("nsubj", agent), *late]
    return attach(_verb(clause), before, [("obj", patient), *place_slot(clause, PLACES)])


GRAMMAR = Grammar(
    code="ru",
    clause=clause_of,
    connectives={
        "and": word("и", "CCONJ"),
        "but": word("но", "CCONJ"),
        "because": phrase_of("потому/SCONJ что/SCONJ/fixed"),
    },
)
