from clients import AsyncRecommenderClient as AsyncRecommenderClient
from clients import Recommendations as Recommendations
from clients import RecommenderClient as RecommenderClient
from distilrec.api import Run as Run
from distilrec.api import fit as fit
from distilrec.api import load as load
from distilrec.api import run as run

__version__: str
