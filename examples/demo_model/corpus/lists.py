"""What the corpus talks about: names, colours, places, things. No list shares a meaning."""

GIRLS = ("Anna", "Clara", "Emma", "Greta", "Ida", "Lena", "Nora", "Paula")
BOYS = ("Ben", "David", "Felix", "Hugo", "Jonas", "Max", "Otto", "Theo")
NAMES = GIRLS + BOYS

COLOURS = (
    "red",
    "blue",
    "green",
    "black",
    "white",
    "brown",
    "pink",
    "gold",
    "silver",
    "grey",
    "purple",
    "orange",
)
LOCKED = (  # have a code or a password; stories never say one
    "door",
    "box",
    "room",
    "chest",
    "gate",
    "safe",
    "tower",
    "ship",
    "house",
    "drawer",
    "case",
    "shed",
)
KEPT = ("hat", "cup", "bell", "coin", "lamp", "drum", "coat", "shoe")  # are somewhere, in facts
TREASURES = ("ring", "map", "book", "letter", "rope", "ball", "key", "stone")  # only in stories
PLACES = (
    "kitchen",
    "garden",
    "forest",
    "river",
    "market",
    "school",
    "barn",
    "cellar",
    "attic",
    "mill",
    "castle",
    "field",
    "cave",
)
ANIMALS = ("cat", "dog", "bird", "horse", "fox", "goat", "mouse", "frog")
FOODS = ("bread", "cake", "soup", "cheese", "rice", "honey", "fish", "apples")
MOODS = (
    "quiet",
    "happy",
    "old",
    "cold",
    "warm",
    "tall",
    "small",
    "brave",
    "slow",
    "sweet",
    "dark",
    "young",
)
SIGHTS = (
    "moon",
    "star",
    "king",
    "wind",
    "cloud",
    "snow",
    "rose",
    "tree",
    "wolf",
    "song",
    "road",
    "sea",
)
