"""Reasoning: calendar arithmetic with days, months, hours, dates and ages."""

from turnout.tasks.worlds.facts import DAYS, YEARS
from turnout.tasks.worlds.problem import Domain, Draw, Problem, near, reasoning

MONTHS: tuple[str, ...] = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
)
MONTHS += ("November", "December")
LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # without leap years


def _day_shift(draw: Draw, sign: int) -> Problem:
    day, n = draw.below(7), draw.between(2, 60)
    to = DAYS[(day + sign * n) % 7]
    after = (f"Today is {DAYS[day]}. What day is it in {n} days?", f"What day comes {n} days after {DAYS[day]}?")
    before = (f"Today is {DAYS[day]}. What day was it {n} days ago?", f"What day comes {n} days before {DAYS[day]}?")
    steps = f"{n} days are {n // 7} weeks and {n % 7} days, and {n % 7} days {_way(sign)} {DAYS[day]} is {to}."
    return Problem(f"day{DAYS[day]}{sign * n}", draw.pick(after if sign > 0 else before), steps, to, DAYS)


def _month_shift(draw: Draw, sign: int) -> Problem:
    month, n = draw.below(12), draw.between(2, 36)
    to, name = MONTHS[(month + sign * n) % 12], MONTHS[month]
    after = (f"It is {name}. Which month is it in {n} months?", f"Which month comes {n} months after {name}?")
    before = (f"It is {name}. Which month was it {n} months ago?", f"Which month comes {n} months before {name}?")
    steps = f"{n} months are {n // 12} years and {n % 12} months, and {n % 12} months {_way(sign)} {name} is {to}."
    return Problem(f"month{name}{sign * n}", draw.pick(after if sign > 0 else before), steps, to, MONTHS)


def _hour_shift(draw: Draw, sign: int) -> Problem:
    hour, n = draw.below(24), draw.between(2, 48)
    to = (hour + sign * n) % 24
    after = (
        f"The clock says {hour}:00. What does it say in {n} hours?",
        f"It is {hour}:00. Which hour is it {n} hours later?",
    )
    before = (
        f"The clock says {hour}:00. What did it say {n} hours ago?",
        f"It is {hour}:00. Which hour was it {n} hours earlier?",
    )
    total = hour + sign * n
    steps = f"{hour} {'+' if sign > 0 else '-'} {n} = {total}" + (
        "." if total == to else f", which is {to} on the clock."
    )
    wrong = [f"{h}:00" for h in draw.sample(range(24), 8)]
    return Problem(f"hour{hour}{sign * n:+}", draw.pick(after if sign > 0 else before), steps, f"{to}:00", wrong)


def _way(sign: int) -> str:
    return "after" if sign > 0 else "before"


def _weekday_of_date(draw: Draw) -> Problem:
    first, day, second = draw.between(1, 31), draw.below(7), draw.between(1, 31)
    second = second if second != first else first % 31 + 1
    to, gap = DAYS[(day + second - first) % 7], second - first
    texts = (
        f"The {_th(first)} of the month is a {DAYS[day]}. What day is the {_th(second)}?",
        f"If the {_th(first)} is a {DAYS[day]}, which day is the {_th(second)} of the same month?",
    )
    steps = (
        f"From the {_th(first)} to the {_th(second)} is {gap} days. {abs(gap)} days {_way(gap)} {DAYS[day]} is {to}."
    )
    return Problem(f"weekday{first}{DAYS[day]}{second}", draw.pick(texts), steps, to, DAYS)


def _th(n: int) -> str:
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _date(day_of_year: int) -> str:
    day = day_of_year % 365
    for month, length in zip(MONTHS, LENGTHS, strict=True):
        if day < length:
            return f"{day + 1} {month}"
        day -= length
    raise AssertionError(day_of_year)


def _date_shift(draw: Draw, sign: int) -> Problem:
    day, n = draw.below(365), draw.between(2, 30)
    start, to = _date(day), _date(day + sign * n)
    after = (f"Today is {start}. What is the date in {n} days?", f"Which date is {n} days after {start}?")
    before = (f"Today is {start}. What was the date {n} days ago?", f"Which date is {n} days before {start}?")
    month = start.split()[1]
    steps = f"{month} has {LENGTHS[MONTHS.index(month)]} days. {n} days {_way(sign)} {start} is {to}."
    wrong = [_date(day + sign * n + off) for off in (-10, -3, -2, -1, 1, 2, 3, 10)]
    return Problem(f"date{day}{sign * n:+}", draw.pick(after if sign > 0 else before), steps, to, wrong)


def _date_gap(draw: Draw) -> Problem:
    day, n = draw.below(330), draw.between(2, 30)
    start, end = _date(day), _date(day + n)
    texts = (
        f"How many days is it from {start} to {end}?",
        f"A fair opens on {start} and ends on {end}. How many days later?",
    )
    month = start.split()[1]
    left = LENGTHS[MONTHS.index(month)] - int(start.split()[0])
    if month == end.split()[1]:
        steps = f"{end.split()[0]} - {start.split()[0]} = {n}."
    else:
        steps = f"{month} has {left} days left, and {left} + {end.split()[0]} = {n}."
    return Problem(f"gap{day}+{n}", draw.pick(texts), steps, str(n), near(draw, n, 1))


def _age(draw: Draw) -> Problem:
    born, age = int(draw.pick(YEARS)), draw.between(2, 40)
    now = born + age
    texts = (f"A child is born in {born}. How old is it in {now}?", f"How many years is it from {born} to {now}?")
    return Problem(f"age{born}{now}", draw.pick(texts), f"{now} - {born} = {age}.", str(age), near(draw, age))


def _birth(draw: Draw) -> Problem:
    age, now = draw.between(2, 40), draw.between(2000, 2030)
    born = now - age
    texts = (f"In {now} a woman is {age}. In which year was she born?", f"A man is {age} in {now}. When was he born?")
    return Problem(f"birth{now}{age}", draw.pick(texts), f"{now} - {age} = {born}.", str(born), near(draw, born))


DATES: Domain = reasoning(
    "calendar",
    {
        "day-after": lambda draw: _day_shift(draw, 1),
        "day-before": lambda draw: _day_shift(draw, -1),
        "month-after": lambda draw: _month_shift(draw, 1),
        "month-before": lambda draw: _month_shift(draw, -1),
        "hour-after": lambda draw: _hour_shift(draw, 1),
        "hour-before": lambda draw: _hour_shift(draw, -1),
        "weekday-of-date": _weekday_of_date,
        "date-after": lambda draw: _date_shift(draw, 1),
        "date-before": lambda draw: _date_shift(draw, -1),
        "date-gap": _date_gap,
        "age": _age,
        "birth-year": _birth,
    },
)
