"""Measure the priors beside what an animator has without them, on any pack: ``python -m mmdm_engine evaluate``.

Every method gets the same windows, in which what it must make up has been replaced by NaN. An evaluation is one module
that is entered in `command.EVALUATIONS`; what several of them need is in `windows`, `figures` and `tables`.
"""

from .command import add_arguments, run
from .figures import LAFAN1_DEVIATION, bootstrap_ratio, clean_figures, gap_figures, lafan1_deviation, mean_mpjpe
from .filters import TUNED
from .inbetween import FILLERS, Fill, inbetween, prior_filler
from .noise import add_noise
from .refinement import Clean, prior_cleaner, refine, tune_filters
from .tables import machine
from .windows import Window, category, cut

__all__ = [
    "FILLERS",
    "LAFAN1_DEVIATION",
    "TUNED",
    "Clean",
    "Fill",
    "Window",
    "add_arguments",
    "add_noise",
    "bootstrap_ratio",
    "category",
    "clean_figures",
    "cut",
    "gap_figures",
    "inbetween",
    "lafan1_deviation",
    "machine",
    "mean_mpjpe",
    "prior_cleaner",
    "prior_filler",
    "refine",
    "run",
    "tune_filters",
]
