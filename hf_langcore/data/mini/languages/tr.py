"""Turkish: verb last, accusative of what is definite, locative, genitive and possessive, vowel harmony."""

from __future__ import annotations

from functools import cache

from hf_langcore.data.mini.grammar import Grammar, Slot, adjective_slot, capitalised, place_slot, time_slots
from hf_langcore.data.mini.meaning import Clause
from hf_langcore.data.mini.phrase import Phrase, attach, word
from hf_langcore.data.mini.tables import phrases, table

# concept singular plural
AGENTS = table("""
    woman kadın kadınlar
    man adam adamlar
    girl kız kızlar
    boy oğlan oğlanlar
    teacher öğretmen öğretmenler
    doctor doktor doktorlar
    student öğrenci öğrenciler
    farmer çiftçi çiftçiler
    grandmother büyükanne büyükanneler
    neighbour komşu komşular
    artist ressam ressamlar
    merchant tüccar tüccarlar
    cat kedi kediler
    dog köpek köpekler
    bird kuş kuşlar
    horse at atlar
""")

# concept nominative accusative
THINGS = table("""
    cat kedi kediyi
    dog köpek köpeği
    bird kuş kuşu
    horse at atı
    book kitap kitabı
    letter mektup mektubu
    newspaper gazete gazeteyi
    apple elma elmayı
    flower çiçek çiçeği
    car araba arabayı
    house ev evi
    table masa masayı
    shirt gömlek gömleği
    key anahtar anahtarı
    cup fincan fincanı
    picture resim resmi
    bicycle bisiklet bisikleti
    bag çanta çantayı
    fish balık balığı
    egg yumurta yumurtayı
    bread ekmek ekmeği
    soup çorba çorbayı
    rice pilav pilavı
    water su suyu
    milk süt sütü
    tea çay çayı
""")

ADJECTIVES = table("""
    young genç
    strong güçlü
    kind nazik
    tired yorgun
    happy neşeli
    small küçük
    black siyah
    white beyaz
    big büyük
    hungry aç
    new yeni
    old eski
    interesting ilginç
    red kırmızı
    fresh taze
    beautiful güzel
    delicious lezzetli
    hot sıcak
    cold soğuk
    clean temiz
""")

# verb past aorist future; third person singular, which also goes with plural subjects that are named
VERBS = table("""
    read okudu okur okuyacak
    write yazdı yazar yazacak
    buy aldı alır alacak
    sell sattı satar satacak
    see gördü görür görecek
    eat yedi yer yiyecek
    drink içti içer içecek
    cook pişirdi pişirir pişirecek
    find buldu bulur bulacak
    hide sakladı saklar saklayacak
    draw çizdi çizer çizecek
    wash yıkadı yıkar yıkayacak
    repair onardı onarır onaracak
    seek aradı arar arayacak
    open açtı açar açacak
    feed besledi besler besleyecek
""")
_TENSE_COLUMNS = {"past": 0, "present": 1, "future": 2}

PLACES = phrases("""
    market pazarda/NOUN
    school okulda/NOUN
    garden bahçede/NOUN
    kitchen mutfakta/NOUN
    park parkın/NOUN/nmod:poss yanında/NOUN
    village köyde/NOUN
    city şehirde/NOUN
    shop mağazada/NOUN
    library kütüphanede/NOUN
    river nehrin/NOUN/nmod:poss kenarında/NOUN
""")

TIMES = phrases("""
    yesterday dün/ADV
    last_week geçen/ADJ/amod hafta/NOUN
    this_morning bu/DET/det sabah/NOUN
    every_day her/DET/det gün/NOUN
    every_morning her/DET/det sabah/NOUN
    tomorrow yarın/ADV
    next_week gelecek/ADJ/amod hafta/NOUN
    this_evening bu/DET/det akşam/NOUN
""")

_NUMERALS = {"two": "iki", "three": "üç", "five": "beş"}
_LIVING = word("yaşayan", "VERB")


def _adjective(concept: str) -> Slot:
    return adjective_slot(ADJECTIVES[concept][0] if concept else "")


@cache
def subject(agent: str, plural: bool, adjective: str, home: str) -> Phrase:  # noqa: FBT001
    """The noun phrase of an agent, with an adjective or a participle clause before it."""
    resident: Slot = [("acl", attach(_LIVING, [("obl", PLACES[home])]))] if home else []
    return attach(word(AGENTS[agent][plural], "NOUN"), [*resident, *_adjective(adjective)])


@cache
def thing(patient: str, quantity: str, adjective: str) -> Phrase:
    """The noun phrase of a patient: accusative with "this", bare otherwise, singular after numerals."""
    bare, accusative = THINGS[patient]
    amod = _adjective(adjective)
    if quantity == "this":
        return attach(word(accusative, "NOUN"), [("det", word("bu", "DET")), *amod])
    if quantity in _NUMERALS:
        return attach(word(bare, "NOUN"), [("nummod", word(_NUMERALS[quantity], "NUM")), *amod])
    # The article stands between adjective and noun: "yeni bir kitap".
    article: Slot = [("det", word("bir", "DET"))] if quantity == "a" else []
    return attach(word(bare, "NOUN"), [*amod, *article])


def clause_of(clause: Clause, role: str) -> Phrase:
    """The clause: time, subject, time, place, object, verb; a definite object goes before the place."""
    front, late = time_slots(clause, role, TIMES)
    verb = word(VERBS[clause.verb][_TENSE_COLUMNS[clause.tense]], "VERB")
    agent = subject(clause.agent, clause.plural, clause.agent_adjective, clause.home)
    patient = ("obj", thing(clause.patient, clause.quantity, clause.patient_adjective))
    place = place_slot(clause, PLACES)
    rest = [patient, *place] if clause.quantity == "this" else [*place, patient]
    return attach(verb, [*front, ("nsubj", agent), *late, *rest])


def _capitalised(form: str) -> str:
    return "İ" + form[1:] if form[0] == "i" else capitalised(form)


GRAMMAR = Grammar(
    code="tr",
    clause=clause_of,
    connectives={"and": word("ve", "CCONJ"), "but": word("ama", "CCONJ"), "because": word("çünkü", "SCONJ")},
    with_comma=frozenset({"but", "because"}),
    capitalise=_capitalised,
)
