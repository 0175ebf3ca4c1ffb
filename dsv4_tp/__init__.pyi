from dsv4_tp.client import Answer as Answer
from dsv4_tp.client import Ask as Ask
from dsv4_tp.client import AsyncClient as AsyncClient
from dsv4_tp.client import Client as Client
from dsv4_tp.client import Finish as Finish
from dsv4_tp.client import Piece as Piece
from dsv4_tp.client import Stats as Stats
from dsv4_tp.core import FinishReason as FinishReason
from dsv4_tp.errors import BusyError as BusyError
from dsv4_tp.errors import DeadlineError as DeadlineError
from dsv4_tp.errors import Dsv4Error as Dsv4Error
from dsv4_tp.errors import InputError as InputError
from dsv4_tp.errors import NotReadyError as NotReadyError
from dsv4_tp.errors import RankFailure as RankFailure
from dsv4_tp.library.launched import launch as launch
from dsv4_tp.library.local import LocalModel as LocalModel
from dsv4_tp.library.local import load as load

__version__: str
