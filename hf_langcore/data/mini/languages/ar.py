"""Arabic: definite article, dual, numerals of opposite gender, verb first or subject first with agreement."""

from __future__ import annotations

from functools import cache

from hf_langcore.data.mini.concepts import ANIMALS
from hf_langcore.data.mini.grammar import Grammar, Slot, adjective_slot, place_slot, time_slots
from hf_langcore.data.mini.meaning import Clause
from hf_langcore.data.mini.phrase import Phrase, attach, word
from hf_langcore.data.mini.tables import phrases, table

# concept singular plural plural-accusative gender; all without the article
AGENTS = table("""
    woman مرأة نساء نساء f
    man رجل رجال رجال m
    girl بنت بنات بنات f
    boy ولد أولاد أولاد m
    teacher معلم معلمون معلمين m
    doctor طبيبة طبيبات طبيبات f
    student طالب طلاب طلاب m
    farmer فلاح فلاحون فلاحين m
    grandmother جدة جدات جدات f
    neighbour جارة جارات جارات f
    artist رسام رسامون رسامين m
    merchant تاجر تجار تجار m
    cat قطة قطط قطط f
    dog كلب كلاب كلاب m
    bird عصفور عصافير عصافير m
    horse حصان أحصنة أحصنة m
""")

# concept bare accusative dual plural gender
THINGS = table("""
    cat قطة قطة قطتين قطط f
    dog كلب كلبًا كلبين كلاب m
    bird عصفور عصفورًا عصفورين عصافير m
    horse حصان حصانًا حصانين أحصنة m
    book كتاب كتابًا كتابين كتب m
    letter رسالة رسالة رسالتين رسائل f
    newspaper جريدة جريدة جريدتين جرائد f
    apple تفاحة تفاحة تفاحتين تفاحات f
    flower زهرة زهرة زهرتين زهرات f
    car سيارة سيارة سيارتين سيارات f
    house بيت بيتًا بيتين بيوت m
    table طاولة طاولة طاولتين طاولات f
    shirt قميص قميصًا قميصين قمصان m
    key مفتاح مفتاحًا مفتاحين مفاتيح m
    cup فنجان فنجانًا فنجانين فناجين m
    picture لوحة لوحة لوحتين لوحات f
    bicycle دراجة دراجة دراجتين دراجات f
    bag حقيبة حقيبة حقيبتين حقائب f
    fish سمكة سمكة سمكتين سمكات f
    egg بيضة بيضة بيضتين بيضات f
    bread خبز خبزًا - - m
    soup حساء حساءً - - m
    rice أرز أرزًا - - m
    water ماء ماءً - - m
    milk حليب حليبًا - - m
    tea شاي شايًا - - m
""")

# concept masculine masculine-accusative feminine dual-m dual-f plural-m plural-m-accusative plural-f
# Adjectives of people need the plurals, adjectives of things the duals; colours take no tanwin.
ADJECTIVES = table("""
    young شاب - شابة - - شباب شباب شابات
    strong قوي - قوية - - أقوياء أقوياء قويات
    kind لطيف - لطيفة - - لطفاء لطفاء لطيفات
    tired متعب - متعبة - - متعبون متعبين متعبات
    happy سعيد - سعيدة - - سعداء سعداء سعيدات
    hungry جائع - جائعة - - جائعون جائعين جائعات
    small صغير صغيرًا صغيرة صغيرين صغيرتين صغار صغار صغيرات
    black أسود أسود سوداء أسودين سوداوين - - -
    white أبيض أبيض بيضاء أبيضين بيضاوين - - -
    big كبير كبيرًا كبيرة كبيرين كبيرتين - - -
    new جديد جديدًا جديدة جديدين جديدتين - - -
    old قديم قديمًا قديمة قديمين قديمتين - - -
    interesting ممتع ممتعًا ممتعة ممتعين ممتعتين - - -
    red أحمر أحمر حمراء أحمرين حمراوين - - -
    fresh طازج طازجًا طازجة طازجين طازجتين - - -
    beautiful جميل جميلًا جميلة جميلين جميلتين - - -
    delicious لذيذ لذيذًا لذيذة لذيذين لذيذتين - - -
    hot ساخن ساخنًا ساخنة ساخنين ساخنتين - - -
    cold بارد باردًا باردة باردين باردتين - - -
    clean نظيف نظيفًا نظيفة نظيفين نظيفتين - - -
""")
_MASCULINE, _ACCUSATIVE, _FEMININE, _DUAL_M, _DUAL_F, _PLURAL_M, _PLURAL_M_ACCUSATIVE, _PLURAL_F = range(8)

# verb past: he she they-m they-f, present: he she they-m they-f
VERBS = table("""
    read قرأ قرأت قرؤوا قرأن يقرأ تقرأ يقرؤون يقرأن
    write كتب كتبت كتبوا كتبن يكتب تكتب يكتبون يكتبن
    buy اشترى اشترت اشتروا اشترين يشتري تشتري يشترون يشترين
    sell باع باعت باعوا بعن يبيع تبيع يبيعون يبعن
    see رأى رأت رأوا رأين يرى ترى يرون يرين
    eat أكل أكلت أكلوا أكلن يأكل تأكل يأكلون يأكلن
    drink شرب شربت شربوا شربن يشرب تشرب يشربون يشربن
    cook طبخ طبخت طبخوا طبخن يطبخ تطبخ يطبخون يطبخن
    find وجد وجدت وجدوا وجدن يجد تجد يجدون يجدن
    hide أخفى أخفت أخفوا أخفين يخفي تخفي يخفون يخفين
    draw رسم رسمت رسموا رسمن يرسم ترسم يرسمون يرسمن
    wash غسل غسلت غسلوا غسلن يغسل تغسل يغسلون يغسلن
    repair أصلح أصلحت أصلحوا أصلحن يصلح تصلح يصلحون يصلحن
    seek بحث بحثت بحثوا بحثن يبحث تبحث يبحثون يبحثن
    open فتح فتحت فتحوا فتحن يفتح تفتح يفتحون يفتحن
    feed أطعم أطعمت أطعموا أطعمن يطعم تطعم يطعمون يطعمن
""")

PLACES = phrases("""
    market في/ADP/case السوق/NOUN
    school في/ADP/case المدرسة/NOUN
    garden في/ADP/case الحديقة/NOUN
    kitchen في/ADP/case المطبخ/NOUN
    park قرب/ADP/case المتنزه/NOUN
    village في/ADP/case القرية/NOUN
    city في/ADP/case المدينة/NOUN
    shop في/ADP/case المتجر/NOUN
    library في/ADP/case المكتبة/NOUN
    river قرب/ADP/case النهر/NOUN
""")

TIMES = phrases("""
    yesterday أمس/ADV
    last_week في/ADP/case الأسبوع/NOUN الماضي/ADJ/amod
    this_morning هذا/DET/det الصباح/NOUN
    every_day كل/DET/det يوم/NOUN
    every_morning كل/DET/det صباح/NOUN
    tomorrow غدًا/ADV
    next_week في/ADP/case الأسبوع/NOUN القادم/ADJ/amod
    this_evening هذا/DET/det المساء/NOUN
""")

# Person of the verb -> relative pronoun and "lives".
_HE, _SHE, _THEY_M, _THEY_F = range(4)
RELATIVES = (("الذي", "يعيش"), ("التي", "تعيش"), ("الذين", "يعيشون"), ("اللواتي", "يعشن"))
# By gender of the noun; the numeral itself takes the form of the opposite gender.
NUMERALS = {"three": {"m": "ثلاثة", "f": "ثلاث"}, "five": {"m": "خمسة", "f": "خمس"}}
_WILL = word("س", "AUX", joins_right=True)
_THIS = {"m": word("هذا", "DET"), "f": word("هذه", "DET")}


def _the(form: str) -> str:
    # المرأة drops the vowel that مرأة would need; the others simply take the article.
    return "ال" + form if form else ""


def person(agent: str, *, plural: bool) -> int:
    """Column of the verb that agrees fully; several animals count as "she"."""
    gender = AGENTS[agent][3]
    if plural and agent not in ANIMALS:
        return _THEY_F if gender == "f" else _THEY_M
    return _SHE if gender == "f" or plural else _HE


def _person_column(who: int, *, accusative: bool) -> int:
    return (_MASCULINE, _FEMININE, _PLURAL_M_ACCUSATIVE if accusative else _PLURAL_M, _PLURAL_F)[who]


@cache
def subject(agent: str, plural: bool, adjective: str, home: str, accusative: bool) -> Phrase:  # noqa: FBT001
    """The definite noun phrase of an agent; in the accusative after "because" and "but"."""
    who = person(agent, plural=plural)
    noun = AGENTS[agent][(2 if accusative else 1) if plural else 0]
    column = _person_column(who, accusative=accusative)
    after = adjective_slot(_the(ADJECTIVES[adjective][column]) if adjective else "")
    if home:
        after = [("acl:relcl", _resident(who, home))]
    return attach(word(_the(noun), "NOUN"), after=after)


def _resident(who: int, home: str) -> Phrase:
    pronoun, lives = RELATIVES[who]
    return attach(word(lives, "VERB"), [("nsubj", word(pronoun, "PRON"))], [("obl", PLACES[home])])


@cache
def thing(patient: str, quantity: str, adjective: str, genitive: bool) -> Phrase:  # noqa: FBT001
    """The noun phrase of a patient, in the accusative or, after a preposition, in the genitive."""
    bare, accusative, dual, plural, gender = THINGS[patient]
    forms = ADJECTIVES[adjective] if adjective else ("",) * 8
    is_feminine = gender == "f"
    if quantity == "this":
        amod = adjective_slot(_the(forms[_FEMININE if is_feminine else _MASCULINE]))
        return attach(word(_the(bare), "NOUN"), [("det", _THIS[gender])], amod)
    if quantity == "two":
        return attach(word(dual, "NOUN"), after=adjective_slot(forms[_DUAL_F if is_feminine else _DUAL_M]))
    if quantity in NUMERALS:
        number = [("nummod", word(NUMERALS[quantity][gender], "NUM"))]
        # Several things count as feminine singular.
        return attach(word(plural, "NOUN"), number, adjective_slot(forms[_FEMININE]))
    masculine = forms[_MASCULINE if genitive else _ACCUSATIVE]
    amod = adjective_slot(forms[_FEMININE] if is_feminine else masculine)
    return attach(word(bare if genitive else accusative, "NOUN"), after=amod)


def _object(clause: Clause) -> tuple[str, Phrase]:
    if clause.verb != "seek":
        return "obj", thing(clause.patient, clause.quantity, clause.patient_adjective, False)
    said = thing(clause.patient, clause.quantity, clause.patient_adjective, True)
    return "obl", attach(said, [("case", word("عن", "ADP"))])


def _verb(clause: Clause, *, comes_first: bool) -> tuple[Slot, Phrase]:
    who = person(clause.agent, plural=clause.plural)
    # Before its subject the verb agrees in gender only.
    column = who - 2 if comes_first and who in {_THEY_M, _THEY_F} else who
    forms = VERBS[clause.verb]
    if clause.tense == "past":
        return [], word(forms[column], "VERB")
    return ([("aux", _WILL)] if clause.tense == "future" else []), word(forms[4 + column], "VERB")


def clause_of(clause: Clause, role: str) -> Phrase:
    """Verb first after a time and after "and", otherwise subject first; then object, place and time."""
    front, late = time_slots(clause, role, TIMES)
    comes_first = bool(front) or role == "and"
    auxiliary, verb = _verb(clause, comes_first=comes_first)
    is_accusative = role in {"but", "because"}
    agent = (
        "nsubj",
        subject(clause.agent, clause.plural, clause.agent_adjective, clause.home, is_accusative),
    )
    rest = [_object(clause), *place_slot(clause, PLACES), *late]
    if comes_first:
        return attach(verb, [*front, *auxiliary], [agent, *rest])
    return attach(verb, [agent, *auxiliary], rest)


GRAMMAR = Grammar(
    code="ar",
    clause=clause_of,
    connectives={
        "and": word("و", "CCONJ", joins_right=True),
        "but": word("لكن", "CCONJ"),
        "because": word("لأن", "SCONJ"),
    },
    with_comma=frozenset({"but"}),
    comma=word("،", "PUNCT", joins_left=True),
)
