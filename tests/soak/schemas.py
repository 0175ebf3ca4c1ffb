"""Random JSON schemas of all that is supported, with texts that come to an end."""

import random

WORDS = ("king", "queen", "rope", "door", "mill", "red ball", "Lena", "é", 'a "b"', "x/y", "~", "")
PATTERNS = (r"^[A-Z][a-z]{1,5}$", r"^\d{3}-\d{2}$", r"^(yes|no|not sure)$", r"^[^aeiou ]{2,4}$")
FORMATS = ("date", "ipv4", "uuid")


def random_schema(rng: random.Random) -> dict:
    """A schema of up to three levels; a third of them with definitions."""
    if rng.random() < 0.67:
        return of_object(rng, 2)
    schema = rng.choice([of_object, of_array])(rng, 1)
    some = {"$defs": {"thing": anything(rng, 1)}} | schema
    place = {"$ref": "#/$defs/thing"}
    if "properties" in some:
        some["properties"]["thing"] = place
        some["required"] = [*some["required"], "thing"]
    else:
        some["items"] = place
    return some


def anything(rng: random.Random, depth: int) -> dict:
    """A schema that has others in it `depth` levels deep at most."""
    flat = (of_string, of_integer, of_number, of_enum, of_const, of_type)
    deep = (of_object, of_array, of_choice, of_all)
    kind = rng.choice(flat if depth == 0 or rng.random() < 0.5 else deep)
    return kind(rng, depth)


def of_object(rng: random.Random, depth: int) -> dict:
    names = rng.sample(WORDS, rng.randint(1, 4))
    schema = {
        "type": "object",
        "properties": {name: anything(rng, depth - 1) for name in names},
        "required": [name for name in names if rng.random() < 0.7],
        "additionalProperties": False,
    }
    if rng.random() < 0.2:
        # Without a pattern a name may have any length, and without a limit there may be any number.
        schema |= {"required": names, "maxProperties": len(names) + 1}
        schema["patternProperties"] = {"^more[0-9]$": anything(rng, 0)}
    return schema


def of_array(rng: random.Random, depth: int) -> dict:
    least = rng.randint(0, 2)
    schema = {"type": "array", "minItems": least, "maxItems": least + rng.randint(0, 2)}
    schema["items"] = anything(rng, depth - 1)
    if rng.random() < 0.3:
        schema |= {"prefixItems": [anything(rng, 0) for _ in range(2)], "items": False}
        schema |= {"minItems": 2, "maxItems": 2}
    return schema


def of_choice(rng: random.Random, depth: int) -> dict:
    kinds = [of_string, of_integer, of_object, of_array]
    if rng.random() < 0.5:  # one type each, so that only one can hold
        return {"oneOf": [kind(rng, depth - 1) for kind in rng.sample(kinds, 2)]}
    return {"anyOf": [anything(rng, depth - 1) for _ in range(rng.randint(1, 3))]}


def of_all(rng: random.Random, _depth: int) -> dict:
    low, high = sorted(rng.sample(range(-50, 50), 2))
    return {"allOf": [{"type": "integer", "minimum": low}, {"maximum": high}]}


def of_string(rng: random.Random, _depth: int) -> dict:
    least = rng.randint(0, 4)
    return {"type": "string"} | rng.choice(
        [
            {"minLength": least, "maxLength": least + rng.randint(0, 8)},
            {"maxLength": rng.randint(0, 12)},
            {"pattern": rng.choice(PATTERNS)},
            {"format": rng.choice(FORMATS)},
        ]
    )


def of_integer(rng: random.Random, _depth: int) -> dict:
    low, high = sorted(rng.sample(range(-300, 300), 2))
    least = rng.choice(["minimum", "exclusiveMinimum"])
    schema = {"type": "integer", least: low, "maximum": high + 20}
    return schema | ({"multipleOf": rng.choice([2, 5, 7])} if rng.random() < 0.3 else {})


def of_number(rng: random.Random, _depth: int) -> dict:
    """Steps of a quarter: a number without would have any number of digits."""
    return {"type": "number", "minimum": rng.randint(-9, 9), "maximum": 90, "multipleOf": 0.25}


def of_enum(rng: random.Random, _depth: int) -> dict:
    return {"enum": rng.sample([*WORDS, 7, -2.5, None, True, [1, "a"], {"b": 2}], 3)}


def of_const(rng: random.Random, _depth: int) -> dict:
    return {"const": rng.choice([*WORDS, 42, None, False, ["x", 3], {"y": {"z": []}}])}


def of_type(rng: random.Random, _depth: int) -> dict:
    return {"type": rng.sample(["boolean", "null"], rng.randint(1, 2))}
