"""In which language a text is written."""

from __future__ import annotations

import pytest

from urial_local.tasks.languages import known_languages, language_of

TEXTS = [
    ("en", "The capital of France is Paris."),
    ("en", "I think that this is what you were looking for."),
    ("en", "Great question! Here are the steps:\n\n1. Open the box.\n2. Take out what is in it."),
    ("en", "My car is green and my bicycle is orange."),
    ("en", 'The word "Hauptstadt" is German and means the capital of a country.'),
    ("de", "Die Hauptstadt von Frankreich ist Paris."),
    ("de", "Ich weiß nicht, ob das stimmt, aber man kann es versuchen."),
    ("de", "Gerne! Zuerst schneidet man die Zwiebeln, dann kommen sie in den Topf."),
    ("de", "Es gibt sieben Tage in einer Woche."),
    ("fr", "La capitale de l'Allemagne est Berlin."),
    ("fr", "Je ne sais pas si c'est vrai, mais on peut essayer."),
    ("fr", "Il y a sept jours dans une semaine, et le dimanche est le dernier."),
    ("fr", "C’est l’eau qui coule dans la rivière."),
    ("es", "La capital de Alemania es Berlín."),
    ("es", "No sé si es verdad, pero se puede intentar con un poco de paciencia."),
    ("es", "Hay siete días en una semana."),
    ("it", "La capitale della Germania è Berlino."),
    ("it", "Non so se è vero, ma si può provare con un po' di pazienza."),
    ("it", "Ci sono sette giorni in una settimana."),
    ("pt", "A capital da Alemanha é Berlim."),
    ("pt", "Não sei se é verdade, mas pode tentar com um pouco de paciência."),
    ("pt", "Há sete dias em uma semana."),
    ("nl", "De hoofdstad van Duitsland is Berlijn."),
    ("nl", "Ik weet niet of het waar is, maar je kunt het met wat geduld proberen."),
    ("nl", "Er zijn zeven dagen in een week."),
    ("pl", "Stolicą Niemiec jest Berlin, a to jest bardzo duże miasto."),
    ("pl", "Nie wiem, czy to jest prawda, ale można się przekonać."),
    ("sv", "Huvudstaden i Tyskland är Berlin, och det är en stor stad."),
    ("sv", "Jag vet inte om det är sant, men man kan försöka."),
    ("zh", "法国的首都是巴黎。"),
    ("zh", "北京"),
    ("zh", "中国的首都是北京 (Beijing)。"),
    ("ja", "フランスの首都はパリです。"),
    ("ja", "日本で一番高い山は富士山です。"),
    ("ko", "프랑스의 수도는 파리입니다."),
    ("ru", "Столица Франции — Париж."),
    ("el", "Η πρωτεύουσα της Γαλλίας είναι το Παρίσι."),
    ("ar", "عاصمة فرنسا هي باريس."),
    ("hi", "फ्रांस की राजधानी पेरिस है।"),
    ("", ""),
    ("", "42"),
    ("", "Paris"),
    ("", "Paris, Berlin, Madrid"),
    ("", "!?… 1, 2, 3 🙂"),
    ("", "Столиця Франції — це місто Париж."),  # Ukrainian
    ("", "پایتخت فرانسه پاریس است."),  # Persian
    ("", "```python\nif the and of in is are:\n    pass\n```"),
    ("", "สวัสดีครับ"),
]


@pytest.mark.parametrize(("language", "text"), TEXTS)
def test_language_of(language, text):
    assert language_of(text) == language


def test_code_is_left_out():
    code = "```python\n# the answer is in the list that you have given\nreturn it\n```"
    assert language_of(f"Die Lösung steht hier, und sie ist nicht lang:\n\n{code}") == "de"


def test_known_languages():
    known = known_languages()
    assert {language for language, _ in TEXTS if language} == set(known)
