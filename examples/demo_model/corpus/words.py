"""The words of the corpus. Their order is that of the token ids: a change needs new weights."""

_AFTER_SPACE = """
    A All An Anna Answer Ben But Clara David Emma Felix From Greta He Hugo I Ida In It Jonas
    Lena Max Nora On Once One Otto Paula She So That The Then Theo There They Tools What Where
    You a about add am an and animal apples are asked asks ate attic bag ball barn began bell
    big bird birds black blue book box brave bread brought brown but by cake call came can case
    castle cat cave cellar cheese chest cloud clouds coat code coin cold colour could cup dark
    day demo did do dog door drawer drum end evening facts favourite field find fire fish five
    food for forest found four fox friend friends frog from garden gate gave get goat going gold
    good green grey had happy hat have he help helped her him his home honey horse house hungry
    in into is it its key king kitchen lamp letter like lived long looked lost map market may me
    met mill model moon more morning mouse my name near next night no not nothing now numbers of
    old on one only open opened or orange password pink place purple put question quiet rain ran
    red rice ring river road room rope rose safe said sat saw says school sea see sentence she
    shed ship shoe showed silver six sky slept slow small snow so some song soup star still
    stone stones stories story string sun sweet tall tell text that the them there they think
    three time to together told took tool tools tower tree trees tried two under user very
    walked wanted wants warm was way weather well went were wet white will wind with wolf you
    young your
"""
_BARE = """
    Again Come Did Do Give Hello In It No Numbers Once One Remember Tell Thank The This Tools
    Use We What Where Which Who Write Yes You add calls code cold description false get integer
    invoke key name object parameter parameters place properties required result string text the
    tool true type warm weather
"""
_SIGNS = (
    ' "',
    " +",
    " -",
    " =",
    ' ["',
    ' {"',
    '!"',
    '",',
    '".',
    '":',
    '">',
    '"]}}',
    '"},',
    '"}},',
    "##",
    ',"',
    '."',
    '="',
    '?"',
    '{"',
)


def words() -> tuple[str, ...]:
    """Every word that becomes a token, with its leading space where it has one."""
    spaced = (" " + word for word in _AFTER_SPACE.split())
    return (*spaced, *_BARE.split(), *_SIGNS)
